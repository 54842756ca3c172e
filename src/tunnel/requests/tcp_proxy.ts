/**
 * The TCP proxy as a service of tunnels: `/proxy-tcp/tcp/PORT`, `/proxy-tcp/{ip4|ip6|dns|dns4|dns6}/HOST/tcp/PORT`
 * (docs/protocols/snocat.md, proxy-tcp). It dials before accepting, and only destinations that its policy permits.
 *
 * @module
 */
import { lookup } from "node:dns/promises";
import { errorMessage, SallyportError } from "../../errors.ts";
import { NetworkSet, normalizeIp } from "../../wire/ip/networks.ts";
import type { Conn, Runtime } from "../../runtime/port.ts";
import { type ByteMeter, splice } from "../../transport/splice.ts";
import { parseProxyTarget, type ProxyTarget } from "../../wire/snocat/proxy_target.ts";
import type { TunnelRequest, TunnelService } from "./router.ts";
import { DIAL_TIMEOUT_MS } from "../../runtime/port.ts";

/**
 * Public connections without a byte in either direction are closed after this many ticks of IDLE_TICK_MS: two hours,
 * like TCP's own keep-alive. SSH and MQTT sessions are quiet for long, and the connection to the client detects its own
 * loss.
 */
export const DEMAND_IDLE_TICKS = 240;

/** The destination of a connection, for a policy. */
export interface ProxyDestination {
  /** The address to dial, in canonical text; for a name, one it currently resolves to. */
  readonly address: string;
  /** 1–65535. */
  readonly port: number;
  /** The host in the request; undefined for `tcp/PORT`. */
  readonly host: ProxyTarget["host"];
}

/** Options of {@link tcpProxy}. */
export interface TcpProxyOptions {
  /** The runtime. */
  readonly runtime: Runtime;
  /** Networks that may be dialled. Defaults to loopback only. */
  readonly networks?: NetworkSet;
  /** Final check of an address in those networks. */
  permits?(destination: ProxyDestination, request: TunnelRequest): boolean | Promise<boolean>;
  /** Resolves a name's addresses. Defaults to the system's resolver. */
  lookup?(name: string): Promise<readonly string[]>;
  /** Byte counters: bytes to the target count as to the agent, bytes from it as to the visitor. */
  readonly meter?: ByteMeter;
}

/** The target hosts of `tcp/PORT`. */
const SELF = ["127.0.0.1", "::1"];
const LOOPBACK = ["127.0.0.0/8", "::1"];

/**
 * Creates the service, to be mounted at `/proxy-tcp` in a router. It refuses with `address_invalid`, `access_denied`,
 * `host_unknown`, or the dial's error.
 *
 * @example
 * ```ts const router = createRouter({   "/proxy-tcp": tcpProxy({ runtime, permits: ({ port }) => port === 22 }), });
 * ```
 */
export function tcpProxy(options: TcpProxyOptions): TunnelService {
  const { runtime, meter } = options;
  const networks = options.networks ?? new NetworkSet(LOOPBACK);
  return async (request) => {
    const target = parseProxyTarget(request.rest);
    const destinations: ProxyDestination[] = [];
    for (const address of await addressesOf(target, options.lookup ?? systemLookup)) {
      const destination = { address, port: target.port, host: target.host };
      // Checked by address: a name's owner controls what it resolves to.
      if (!networks.contains(address)) continue;
      if (await options.permits?.(destination, request) ?? true) destinations.push(destination);
    }
    if (destinations.length === 0) {
      throw new SallyportError(
        "access_denied",
        `Cannot proxy to ${text(target)}: the policy doesn't allow it`,
        { side: "peer" },
      );
    }
    const conn = await dialFirst(runtime, destinations, request.signal);
    return (stream) => {
      if (request.signal.aborted) return conn.abort();
      splice({
        visitorSide: stream,
        agentSide: conn,
        stream,
        clock: runtime.clock,
        memory: runtime.memory,
        idleTicks: DEMAND_IDLE_TICKS,
        ...meter === undefined ? {} : { meter },
      });
    };
  };
}

/** A target's addresses, in canonical text, in dialling order. */
async function addressesOf(
  { host }: ProxyTarget,
  find: (name: string) => Promise<readonly string[]>,
): Promise<string[]> {
  if (host === undefined) return SELF;
  const found = normalizeIp(host.name) === undefined ? await find(host.name) : [host.name];
  const addresses = found.flatMap((address) => normalizeIp(address) ?? [])
    .filter((address) => !host.kind.endsWith(address.includes(":") ? "4" : "6"));
  if (addresses.length > 0) return addresses;
  throw new SallyportError("host_unknown", `Cannot proxy to ${host.name}: it has no address of that kind`, {
    side: "peer",
  });
}

async function systemLookup(name: string): Promise<readonly string[]> {
  try {
    return (await lookup(name, { all: true })).map(({ address }) => address);
  } catch (cause) {
    const why = `Cannot proxy to ${name}: ${errorMessage(cause)}`;
    throw new SallyportError("host_unknown", why, { side: "network", retryable: true, cause });
  }
}

/** Dials them one after another, all within {@link DIAL_TIMEOUT_MS}. */
async function dialFirst(
  runtime: Runtime,
  destinations: readonly ProxyDestination[],
  signal: AbortSignal,
): Promise<Conn> {
  const untilMs = runtime.clock.nowMs() + DIAL_TIMEOUT_MS;
  let failure: unknown;
  for (const [index, { address, port }] of destinations.entries()) {
    signal.throwIfAborted();
    const leftMs = untilMs - runtime.clock.nowMs();
    if (leftMs <= 0) break;
    try {
      // A dead address leaves time for the next.
      const timeoutMs = leftMs / (destinations.length - index);
      return await runtime.dial({ host: address, port, timeoutMs });
    } catch (error) {
      failure = error;
    }
  }
  throw new SallyportError("endpoint_unreachable", `Cannot proxy: ${errorMessage(failure)}`, {
    side: "network",
    retryable: true,
    cause: failure,
  });
}

function text({ host, port }: ProxyTarget): string {
  return host === undefined ? `port ${port}` : `${host.name}, port ${port}`;
}
