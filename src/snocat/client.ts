/**
 * snocat's client: joins a server over QUIC, requests a public TCP port, and forwards connections from there to one
 * target (docs/protocols/snocat.md). It works with snocat-cli's server and Sallyport's, and reconnects after a server
 * restart.
 *
 * @module
 */
import { isIP } from "node:net";
import { Backoff, pause } from "../agent/backoff.ts";
import { errorCode, errorMessage, SallyportError } from "../errors.ts";
import { NetworkSet } from "../wire/ip/networks.ts";
import type { Address, Runtime } from "../runtime/port.ts";
import { type Logger, silentLogger } from "../telemetry/log.ts";
import { closeWhenQuiet } from "../tunnel/carriers/carrier.ts";
import type { PublicPort } from "../tunnel/ports/demand_proxy_client.ts";
import { openPublicPort } from "../tunnel/ports/demand_proxy_service.ts";
import { QuicCarrier } from "../tunnel/carriers/quic_carrier.ts";
import { createRouter, type Router } from "../tunnel/requests/router.ts";
import { tcpProxy } from "../tunnel/requests/tcp_proxy.ts";
import { Tunnel } from "../tunnel/tunnel.ts";
import type { PublicAddress } from "../wire/snocat/demand_proxy.ts";
import { canonicalHostname } from "../wire/hostname.ts";
import { answerBySimpleAck, SNOCAT_ALPN } from "./handshake.ts";
import { SESSION_SETTLED_MS } from "../agent/backoff.ts";
import { DIAL_TIMEOUT_MS } from "../runtime/port.ts";

/** Options of {@link SnocatClient}. */
export interface SnocatClientOptions {
  readonly runtime: Runtime;
  /** The server's QUIC address. */
  readonly server: Address;
  /** The name its certificate must contain. */
  readonly serverName: string;
  /** Certificates that the server's must chain to or be among; PEM text. */
  readonly authoritiesPem: string;
  /** The target of public connections: the only address dialled, whatever the server requests. */
  readonly target: Address;
  /** The preferred public port; snocat's own server always assigns the lowest free one. */
  readonly wishedPort?: number;
  /** Logger. Defaults to no logging. */
  readonly log?: Logger;
  /** The public port is open: at the start, and after each reconnect. */
  opened?(addresses: readonly PublicAddress[]): void;
}

/** A tunnel with its public port. */
interface Joined {
  readonly carrier: QuicCarrier;
  readonly tunnel: Tunnel;
  readonly port: PublicPort;
}

/** A client of one snocat server. */
export class SnocatClient {
  readonly #options: SnocatClientOptions;
  readonly #log: Logger;
  readonly #router: Router;
  readonly #backoff: Backoff = new Backoff();
  readonly #stop = new AbortController();
  readonly #carriers = new Set<QuicCarrier>();
  #joined: Joined | undefined;

  constructor(options: SnocatClientOptions) {
    this.#options = options;
    this.#log = options.log ?? silentLogger;
    const { runtime, target } = options;
    // Canonical, as names in parsed requests are.
    const targetHost = isIP(target.host) === 0 ? canonicalHostname(target.host) : target.host;
    const proxy = tcpProxy({
      runtime,
      networks: new NetworkSet(["0.0.0.0/0", "::/0"]),
      permits: ({ host, port }) => host?.name === targetHost && port === target.port,
    });
    this.#router = createRouter({ "/proxy-tcp": proxy });
  }

  /**
   * Joins, and stays joined until {@link close}. Rejects when the first attempt fails, and later when retrying is
   * pointless: `certificate_refused`, `limit_exceeded` if the server has no port, or the connection error.
   */
  async run(): Promise<void> {
    const { clock } = this.#options.runtime;
    let before = false;
    while (!this.#stop.signal.aborted) {
      let error: unknown;
      try {
        const joined = await this.#join();
        before = true;
        const sinceMs = clock.nowMs();
        error = await Promise.race([joined.port.ended, joined.tunnel.closed]);
        this.#leave(joined, error);
        if (clock.nowMs() - sinceMs >= SESSION_SETTLED_MS) this.#backoff.reset();
      } catch (thrown) {
        if (!this.#stop.signal.aborted && !(before && mayPass(thrown))) throw thrown;
        error = thrown;
      }
      if (this.#stop.signal.aborted) return;
      const delayMs = this.#backoff.next();
      this.#log.warn({ reason: errorCode(error), delay_ms: delayMs }, errorMessage(error));
      await pause(clock, delayMs, this.#stop.signal);
    }
  }

  /** Releases the port, gives open connections `graceMs` to finish, and closes the rest. */
  async close(graceMs: number): Promise<void> {
    if (this.#stop.signal.aborted) return;
    const reason = stopping();
    this.#stop.abort(reason);
    const { clock } = this.#options.runtime;
    await this.#joined?.port.close();
    for (const carrier of this.#carriers) carrier.goAway(reason);
    await Promise.all(
      [...this.#carriers].map((carrier) => closeWhenQuiet(carrier, clock, reason, graceMs)),
    );
  }

  async #join(): Promise<Joined> {
    const { runtime, server, serverName, authoritiesPem, target, wishedPort } = this.#options;
    const { clock } = runtime;
    const quic = await runtime.quic();
    const { signal } = this.#stop;
    const conn = await quic.dial({
      ...server,
      alpn: SNOCAT_ALPN,
      trust: { authoritiesPem, serverName },
      signal,
      timeoutMs: DIAL_TIMEOUT_MS,
    });
    const carrier = new QuicCarrier({ conn, clock, capabilities: quic.capabilities });
    this.#carriers.add(carrier);
    const abort = () => carrier.close(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    try {
      await answerBySimpleAck(carrier, clock);
      const name = `${server.host}:${server.port}`;
      const tunnel = new Tunnel({ carrier, clock, name, router: this.#router, log: this.#log });
      void tunnel.closed.then(() => this.#carriers.delete(carrier));
      const port = await openPublicPort(tunnel, { clock, target, wishedPort });
      this.#joined = { carrier, tunnel, port };
      this.#options.opened?.(port.addresses);
      return this.#joined;
    } catch (error) {
      carrier.close(error instanceof SallyportError ? error : stopping());
      this.#carriers.delete(carrier);
      throw error;
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  /** The port is lost; connected visitors may finish if the tunnel is still open. */
  #leave({ carrier }: Joined, error: unknown): void {
    this.#joined = undefined;
    if (this.#stop.signal.aborted) return;
    void carrier.quiet().then(() => {
      carrier.close(error instanceof SallyportError ? error : stopping());
      this.#carriers.delete(carrier);
    });
  }
}

/** Whether another attempt may succeed. */
function mayPass(error: unknown): boolean {
  return error instanceof SallyportError && error.retryable && error.code !== "certificate_refused";
}

function stopping(): SallyportError {
  return new SallyportError("shutdown", "Tunnel ended: the client stops", { side: "local" });
}
