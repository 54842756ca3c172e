/**
 * snocat's server: accepts QUIC tunnels from clients, assigns the public TCP ports they request, and forwards
 * connections to them (docs/protocols/snocat.md). It works with snocat-cli's clients and Sallyport's.
 *
 * @module
 */
import { errorCode, errorMessage, internalError, SallyportError } from "../errors.ts";
import type { Address, Runtime } from "../runtime/port.ts";
import type { QuicConn, QuicIdentity } from "../runtime/quic_port.ts";
import { type Logger, silentLogger } from "../telemetry/log.ts";
import { closeWhenQuiet } from "../tunnel/carriers/carrier.ts";
import { demandProxyService } from "../tunnel/ports/demand_proxy_service.ts";
import { DemandProxy } from "../tunnel/ports/demand_proxy_server.ts";
import { PortLeases, type PortRange } from "../tunnel/ports/port_leases.ts";
import { QuicCarrier } from "../tunnel/carriers/quic_carrier.ts";
import { UnreadBytes } from "../tunnel/carriers/quic_stream.ts";
import { createRouter, type Router } from "../tunnel/requests/router.ts";
import { greetBySimpleAck, SNOCAT_ALPN } from "./handshake.ts";
import { Tunnel } from "../tunnel/tunnel.ts";
import { formatHostPort } from "../wire/ip/host_port.ts";

/** Options of {@link startSnocatServer}. */
export interface SnocatServerOptions {
  readonly runtime: Runtime;
  /** The UDP address for clients; port 0 takes any free one. */
  readonly listen: Address;
  readonly identity: QuicIdentity;
  /** The IP address on which public ports listen. */
  readonly publicHost: string;
  /** The public ports. */
  readonly ports: PortRange;
  /** The host announced to clients instead of `publicHost`. */
  readonly toldHost?: string;
  /** Logger. Defaults to no logging. */
  readonly log?: Logger;
}

/** A running server. */
export interface SnocatServer {
  /** The address for clients. */
  readonly address: Address;
  /** Number of established tunnels. */
  readonly tunnels: number;
  /** Stops accepting clients and visitors, gives open connections `graceMs` to finish, and closes the rest. */
  close(graceMs: number): Promise<void>;
}

/** Starts a server. Rejects as QUIC's `listen` does, and with `config_invalid` if the port range is invalid. */
export async function startSnocatServer(options: SnocatServerOptions): Promise<SnocatServer> {
  const { runtime, listen, identity } = options;
  const quic = await runtime.quic();
  const log = options.log ?? silentLogger;
  const proxy = new DemandProxy({
    runtime,
    leases: new PortLeases(options.ports),
    host: options.publicHost,
    publicHost: options.toldHost,
    log,
  });
  const router = createRouter({ "/proxyme": demandProxyService(proxy) });
  const carriers = new Set<QuicCarrier>();
  const unread = new UnreadBytes();
  const accept = (conn: QuicConn): void => {
    const carrier = new QuicCarrier({
      conn,
      clock: runtime.clock,
      capabilities: quic.capabilities,
      unread,
    });
    carriers.add(carrier);
    void serve(carrier, { runtime, router, log }).finally(() => carriers.delete(carrier));
  };
  const listener = await quic.listen({
    ...listen,
    identity,
    alpn: [SNOCAT_ALPN],
    accept,
    refused: (error) => log.debug({ reason: error.code }, error.message),
  });
  return {
    address: listener.address,
    get tunnels() {
      return carriers.size;
    },
    async close(graceMs) {
      const reason = new SallyportError("shutdown", "Tunnel ended: the server stops", {
        side: "local",
        retryable: true,
      });
      listener.close();
      proxy.close();
      for (const carrier of carriers) carrier.goAway(reason);
      const { clock } = runtime;
      await Promise.all([...carriers].map((carrier) => closeWhenQuiet(carrier, clock, reason, graceMs)));
      listener.end();
    },
  };
}

/** Serves one client until it disconnects, without delaying others. */
async function serve(
  carrier: QuicCarrier,
  { runtime, router, log: parent }: { runtime: Runtime; router: Router; log: Logger },
): Promise<void> {
  const { clock } = runtime;
  const name = formatHostPort(carrier.remote);
  const log = parent.child({ client: name });
  try {
    await greetBySimpleAck(carrier, clock);
  } catch (thrown) {
    log.warn({ reason: errorCode(thrown) }, errorMessage(thrown));
    carrier.close(internalError("session", thrown));
    return;
  }
  log.info({}, "client connected");
  const tunnel = new Tunnel({ carrier, clock, name, router, log: parent });
  const error = await tunnel.closed;
  log.info({ reason: error.code }, `client left: ${error.message}`);
}
