/**
 * The TCP proxy as a service of tunnels: `/proxy-tcp/tcp/PORT`, `/proxy-tcp/{ip4|ip6|dns|dns4|dns6}/HOST/tcp/PORT`
 * (docs/protocols/snocat.md, proxy-tcp). It dials before it accepts, and only what its policy lets through.
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
 * Public connections without a byte either way are closed after so many ticks of IDLE_TICK_MS, two hours as TCP's own
 * keep-alive: SSH and MQTT sessions are quiet for long, and the way to the client tells of its end by itself.
 */
export const DEMAND_IDLE_TICKS = 240;

/** Where a connection would go, as a policy sees it. */
export interface ProxyDestination {
  /** The address that is dialled, in canonical text: of a name, one that it stands for now. */
  readonly address: string;
  /** 1–65535. */
  readonly port: number;
  /** What the request named; undefined for `tcp/PORT`. */
  readonly host: ProxyTarget["host"];
}

/** What {@link tcpProxy} takes. */
export interface TcpProxyOptions {
  /** The runtime below. */
  readonly runtime: Runtime;
  /** Networks that may be dialled; loopback alone when absent. */
  readonly networks?: NetworkSet;
  /** Has the last say about an address in those networks. */
  permits?(destination: ProxyDestination, request: TunnelRequest): boolean | Promise<boolean>;
  /** Finds a name's addresses; the system's way when absent. */
  lookup?(name: string): Promise<readonly string[]>;
  /** Counts the bytes: towards the target as to the agent, from it as to the visitor. */
  readonly meter?: ByteMeter;
}

/** Where `tcp/PORT` goes. */
const SELF = ["127.0.0.1", "::1"];
const LOOPBACK = ["127.0.0.0/8", "::1"];

/**
 * Makes the service, to stand behind `/proxy-tcp` in a router. It refuses with `address_invalid`, `access_denied`,
 * `host_unknown`, or what the dial came to.
 *
 * @example
 * ```ts
 * const router = createRouter({
 *   "/proxy-tcp": tcpProxy({ runtime, permits: ({ port }) => port === 22 }),
 * });
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
      // Judged by address: what a name stands for is its owner's to choose.
      if (!networks.contains(address)) continue;
      if (await options.permits?.(destination, request) ?? true) destinations.push(destination);
    }
    if (destinations.length === 0) {
      throw new SallyportError(
        "access_denied",
        `Cannot proxy to ${text(target)}: the policy doesn't let it`,
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

/** The addresses that a target stands for, in canonical text, in the order in which they are dialled. */
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

/** Dials one after the other, all of them within {@link DIAL_TIMEOUT_MS}. */
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
