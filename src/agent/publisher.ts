/**
 * Public TCP ports that an agent requests from its edge, for protocols without SNI. They are requested again in each
 * session.
 *
 * @module
 */
import { errorCode, errorMessage, SallyportError } from "../errors.ts";
import type { ByteStream, ByteStreamHandler, Clock } from "../runtime/port.ts";
import { WrappedStream } from "../runtime/wrapped_stream.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Caller, SessionStream } from "../transport/port.ts";
import { type PublicPort, requestPublicPort } from "../tunnel/ports/demand_proxy_client.ts";
import type { Router } from "../tunnel/requests/router.ts";
import type { Tunnel } from "../tunnel/tunnel.ts";
import { DEMAND_DEADLINE_MS, demandSegments, type PublicAddress } from "../wire/snocat/demand_proxy.ts";
import { formatPublishClaim } from "../wire/token/claims.ts";
import { Backoff, pause } from "./backoff.ts";
import type { Connector } from "./connector.ts";

/** A public TCP port that an agent requests. */
export interface PublishedPort {
  /** The port number. Defaults to any port of the edge's range. */
  readonly port?: number;
  /** Handles connections to it, such as {@link tcpConnector} with `plain`. */
  readonly connector: Connector;
  /** Called with its public address each time it is opened. */
  opened?(address: PublicAddress): void;
}

/** Options of a {@link Publisher}. */
interface PublisherOptions {
  readonly ports: readonly PublishedPort[];
  readonly clock: Clock;
  readonly log: Logger;
  /** Random source, from 0 to 1. */
  readonly random?: () => number;
  /** Serves the requests that aren't for a public port. */
  readonly router?: Router;
  /** Passes a stream to a connector. */
  serve(connector: Connector, stream: SessionStream): void;
}

/** The edge opens streams to `published:1`, `published:2`: it needn't know the targets behind its agents. */
const TARGET_HOST = "published";
/** Codes with which an edge refuses a port, or all of them. The previous port is only a preference. */
const UNFIT: readonly string[] = ["access_denied", "address_in_use", "limit_exceeded"];

/** Keeps an agent's public ports open, in its newest session. */
export class Publisher {
  /** Serves connections to the public ports, and everything that the options' router serves. */
  readonly router: Router;
  readonly #publications: readonly Publication[];
  #leaving = new AbortController();
  #closed = false;

  constructor(options: PublisherOptions) {
    this.#publications = options.ports.map((port, index) => new Publication(options, port, index + 1));
    this.router = {
      find: (address) => {
        const found = this.#publications.find(({ path }) => address.join("/") === path);
        if (found === undefined) return options.router?.find(address);
        const service = ({ caller }: { readonly caller: Caller }) => (stream: ByteStream) =>
          options.serve(found.port.connector, new CalledStream(stream, caller));
        return { service, rest: [] };
      },
    };
  }

  /** Current address of each port, in the order of the options; undefined if it isn't open. */
  get addresses(): readonly (PublicAddress | undefined)[] {
    return this.#publications.map(({ address }) => address);
  }

  /** A session is established: ports are requested from its edge instead of the previous session's. */
  connected(tunnel: Tunnel): void {
    this.#leaving.abort();
    if (this.#closed) return;
    const leaving = this.#leaving = new AbortController();
    void tunnel.closed.then(() => leaving.abort());
    for (const publication of this.#publications) void publication.hold(tunnel, leaving.signal);
  }

  /** Releases all ports. */
  close(): void {
    this.#closed = true;
    this.#leaving.abort();
    for (const publication of this.#publications) publication.giveBack();
  }
}

/** One public port. */
class Publication {
  readonly port: PublishedPort;
  /** The address with which the edge opens streams for it, its segments joined. */
  readonly path: string;
  address: PublicAddress | undefined;
  readonly #options: PublisherOptions;
  readonly #target: { readonly host: string; readonly port: number };
  readonly #name: string;
  #lease: PublicPort | undefined;
  /** The port held last. */
  #last: number | undefined;

  constructor(options: PublisherOptions, port: PublishedPort, index: number) {
    this.#options = options;
    this.port = port;
    this.#target = { host: TARGET_HOST, port: index };
    this.path = `proxy-tcp/dns/${TARGET_HOST}/tcp/${index}`;
    this.#name = formatPublishClaim(port);
  }

  giveBack(): void {
    void this.#lease?.close();
    this.#lease = this.address = undefined;
  }

  /** Keeps the port open until the signal is aborted or retrying is pointless. */
  async hold(tunnel: Tunnel, signal: AbortSignal): Promise<void> {
    const { clock, log, random } = this.#options;
    const backoff = new Backoff(random);
    while (!signal.aborted) {
      try {
        const lease = await this.#ask(tunnel, signal);
        if (signal.aborted) return void lease.close();
        this.#tell(lease, tunnel);
        backoff.reset();
        const error = await lease.ended;
        // A newer session's lease may already exist.
        if (this.#lease === lease) this.#lease = this.address = undefined;
        if (error === undefined || signal.aborted) return;
        log.info({ publish: this.#name, reason: error.code }, error.message);
      } catch (error) {
        if (signal.aborted) return;
        log.warn({ publish: this.#name, reason: errorCode(error) }, errorMessage(error));
        if (error instanceof SallyportError && !error.retryable) return;
      }
      await pause(clock, backoff.next(), signal);
    }
  }

  #tell(lease: PublicPort, tunnel: Tunnel): void {
    const [told] = lease.addresses;
    // A wildcard address means the edge itself, under the name we dialled.
    const edge = tunnel.name.slice(0, tunnel.name.lastIndexOf(":"));
    const host = told === undefined || ["::", "0.0.0.0"].includes(told.host) ? edge : told.host;
    this.#lease = lease;
    const address = this.address = { host, port: told?.port ?? 0 };
    this.#options.log.info(
      { publish: this.#name, public_host: host, public_port: told?.port },
      "public port open",
    );
    try {
      this.port.opened?.(address);
    } catch (error) {
      this.#options.log.error({ error: errorMessage(error) }, "a public port's opened callback threw");
    }
  }

  /** Requests the configured port, else the last one held, else any. */
  async #ask(tunnel: Tunnel, signal: AbortSignal): Promise<PublicPort> {
    const { port } = this.port;
    const wished = port ?? this.#last;
    const lease = await this.#request(tunnel, wished, signal).catch((error) => {
      if (port !== undefined || wished === undefined || !UNFIT.includes(errorCode(error))) throw error;
      return this.#request(tunnel, undefined, signal);
    });
    this.#last = lease.addresses[0]?.port;
    return lease;
  }

  async #request(tunnel: Tunnel, wishedPort: number | undefined, signal: AbortSignal): Promise<PublicPort> {
    const { clock } = this.#options;
    const segments = demandSegments(this.#target);
    const stream = await tunnel.open(segments, { signal, timeoutMs: DEMAND_DEADLINE_MS }).catch((cause) => {
      const why = "the edge offers none, or doesn't support them " +
        `(a Sallyport edge needs --publish-ports): ${errorMessage(cause)}`;
      throw new SallyportError("not_supported", `Cannot publish ${this.#name}: ${why}`, {
        side: "peer",
        cause,
      });
    });
    return await requestPublicPort({ stream, clock, wishedPort, reasons: true }).catch((error) => {
      const { code, side, retryable } = error as SallyportError;
      // What the token doesn't allow now it won't allow later; the next session has a new token.
      throw new SallyportError(code, `Cannot publish ${this.#name}: ${errorMessage(error)}`, {
        side,
        retryable: retryable && code !== "access_denied",
        cause: error,
      });
    });
  }
}

/** A request's stream as connectors take it. */
class CalledStream extends WrappedStream implements SessionStream {
  readonly caller: Caller;

  constructor(inner: ByteStream, caller: Caller) {
    super(inner);
    this.caller = caller;
  }

  get peerPaused(): boolean {
    return (this.inner as Partial<SessionStream>).peerPaused ?? false;
  }

  override attach(handler: ByteStreamHandler): void {
    this.inner.attach(handler);
  }
}
