/**
 * QUIC in memory: connections over the memory network's links, in virtual time. As in QUIC, streams don't block each
 * other; packets aren't lost.
 *
 * @module
 */
import { X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { type Bytes, sameBytes } from "../../bytes/bytes.ts";
import { certificateFingerprint } from "../../crypto/certificate.ts";
import { SallyportError } from "../../errors.ts";
import { MemoryConn } from "./memory_conn.ts";
import type { MemoryHost, QuicCaller, Way } from "./memory_host.ts";
import type { Direction } from "./memory_link.ts";
import type { Address, ByteStream, Timer } from "../port.ts";
import type {
  Quic,
  QuicConn,
  QuicDialOptions,
  QuicListener,
  QuicListenOptions,
  QuicTrust,
} from "../quic_port.ts";
import { certificateRefused, peerClosed, QuicConnBase } from "../quic_shared.ts";
import { dialError, dialTimeoutError, type Faults, lostError } from "../shared.ts";
import { QUIC_IDLE_MS, QUIC_KEEP_ALIVE_MS, QUIC_STREAMS_MAX } from "../quic_port.ts";

/** Streams that a client lets its server have open, as few as on Bun. */
const ACCEPTED_STREAMS = 100;

/** The QUIC of an in-memory host. */
export function memoryQuic(host: MemoryHost): Quic {
  return {
    capabilities: {
      receiveBackPressure: true,
      reset: true,
      acceptedStreams: ACCEPTED_STREAMS,
      keyLog: false,
      withstandsFloods: true,
      retry: false,
    },
    // deno-lint-ignore require-await -- what it throws must become a rejection
    listen: async (options) => new Listening(host, options),
    dial: (options) => new Promise((resolve, reject) => new Dialling(host, options, resolve, reject).start()),
  };
}

/** Client sides of handshakes in progress, by their connection attempt. */
const diallers = new WeakMap<Way, Dialling>();

class Listening implements QuicListener {
  readonly address: Address;
  readonly #faults: Faults;
  readonly #unbind: () => void;
  readonly #conns = new Set<MemoryQuicConn>();

  constructor(host: MemoryHost, options: QuicListenOptions) {
    const fingerprint = certificateFingerprint(options.identity.certificatePem);
    const bound = host.bindQuic(options, { arrive: (caller) => this.#arrive(caller, options, fingerprint) });
    this.#faults = host.time.faults;
    this.address = bound.address;
    this.#unbind = bound.unbind;
  }

  close(): void {
    this.#unbind();
  }

  end(): void {
    this.#unbind();
    for (const conn of this.#conns) {
      conn.close(new SallyportError("shutdown", "Cannot go on: the socket is closed", { side: "local" }));
    }
  }

  #arrive(caller: QuicCaller, options: QuicListenOptions, fingerprint: Bytes): void {
    const { way } = caller;
    const back: Direction = way.direction === 0 ? 1 : 0;
    const dialling = diallers.get(way);
    const alpn = options.alpn.find((name) => name === dialling?.options.alpn);
    way.link.carry(back, 0, 0, () => {
      const conn = dialling?.answered(caller, alpn, options.identity.certificatePem, fingerprint);
      way.link.carry(way.direction, 0, 0, () => {
        if (conn === undefined) {
          options.refused?.(peerClosed("handshake failed"));
          return;
        }
        this.#conns.add(conn);
        conn.onOver = () => this.#conns.delete(conn);
        try {
          options.accept(conn);
        } catch (thrown) {
          conn.close(this.#faults.report("accept", thrown));
        }
      });
    });
  }
}

class Dialling {
  readonly options: QuicDialOptions;
  readonly #host: MemoryHost;
  readonly #resolve: (conn: QuicConn) => void;
  readonly #reject: (error: unknown) => void;
  readonly #aborted = () => this.#fail(this.options.signal?.reason);
  #timer: Timer | undefined;
  #over = false;

  constructor(
    host: MemoryHost,
    options: QuicDialOptions,
    resolve: (conn: QuicConn) => void,
    reject: (error: unknown) => void,
  ) {
    this.#host = host;
    this.options = options;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  start(): void {
    const { time } = this.#host;
    const { signal, timeoutMs } = this.options;
    if (signal?.aborted) return this.#aborted();
    signal?.addEventListener("abort", this.#aborted, { once: true });
    const way = this.#host.knockQuic(this.options);
    if (way === undefined) {
      time.soon(() => this.#fail(dialError(this.options, { code: "ENOTFOUND" })));
      return;
    }
    diallers.set(way, this);
    this.#timer = time.at(time.nowMs + timeoutMs, () => this.#fail(dialTimeoutError(this.options)));
  }

  /** The server's flight has arrived; returns the server's end of the connection, undefined if there is none. */
  answered(
    caller: QuicCaller,
    alpn: string | undefined,
    certificatePem: string,
    fingerprint: Bytes,
  ): MemoryQuicConn | undefined {
    if (this.#over) return undefined;
    const why = this.#distrust(certificatePem, fingerprint);
    if (alpn === undefined) this.#fail(dialError(this.options, peerClosed("no common application protocol")));
    else if (why !== undefined) this.#fail(certificateRefused(this.options, why));
    if (this.#over || alpn === undefined) return undefined;
    this.#settle();
    const [near, far] = MemoryQuicConn.pair(this.#host, caller, alpn, fingerprint);
    this.#resolve(near);
    return far;
  }

  #distrust(certificatePem: string, fingerprint: Bytes): string | undefined {
    const { trust } = this.options;
    if ("fingerprint" in trust) {
      return sameBytes(trust.fingerprint, fingerprint) ? undefined : "it isn't the pinned one";
    }
    return wrongWith(certificatePem, trust, this.#host.time.clock.wallMs());
  }

  #fail(error: unknown): void {
    if (this.#over) return;
    this.#settle();
    this.#reject(error);
  }

  #settle(): void {
    this.#over = true;
    this.#timer?.cancel();
    this.options.signal?.removeEventListener("abort", this.#aborted);
  }
}

function wrongWith(
  pem: string,
  trust: Exclude<QuicTrust, { readonly fingerprint: Bytes }>,
  wallMs: number,
): string | undefined {
  const certificate = new X509Certificate(pem);
  const authority = new X509Certificate(trust.authoritiesPem);
  if (!certificate.verify(authority.publicKey)) return "its issuer isn't known";
  const named = isIP(trust.serverName) === 0
    ? certificate.checkHost(trust.serverName)
    : certificate.checkIP(trust.serverName);
  if (named === undefined) return `it isn't ${trust.serverName}'s`;
  const good = Date.parse(certificate.validFrom) <= wallMs && wallMs <= Date.parse(certificate.validTo);
  return good ? undefined : "it has expired, or isn't valid yet";
}

class MemoryQuicConn extends QuicConnBase {
  readonly alpn: string;
  readonly peerFingerprint: Bytes | undefined;
  readonly remote: Address;
  /** Called when the connection is over. */
  onOver: (() => void) | undefined;
  readonly #local: Address;
  readonly #way: Way;
  readonly #direction: Direction;
  readonly #host: MemoryHost;
  #peer!: MemoryQuicConn;
  /** Streams this end has open, how many it may open, and the queue waiting for that. */
  #opened = 0;
  readonly #openMax: number;
  readonly #held: (() => void)[] = [];
  #heardMs: number;
  #keepAlive: Timer;

  private constructor(
    host: MemoryHost,
    way: Way,
    direction: Direction,
    addresses: { readonly local: Address; readonly remote: Address },
    alpn: string,
    peerFingerprint: Bytes | undefined,
  ) {
    super(host.time.faults);
    this.#host = host;
    this.#way = way;
    this.#direction = direction;
    this.#openMax = direction === way.direction ? QUIC_STREAMS_MAX : ACCEPTED_STREAMS;
    this.#local = addresses.local;
    this.remote = addresses.remote;
    this.alpn = alpn;
    this.peerFingerprint = peerFingerprint;
    this.#heardMs = host.time.nowMs;
    this.#keepAlive = this.#keepAliveLater();
    way.link.conns.add(this);
  }

  /** The client's end and the server's. */
  static pair(
    host: MemoryHost,
    { way, from, to }: QuicCaller,
    alpn: string,
    fingerprint: Bytes,
  ): [MemoryQuicConn, MemoryQuicConn] {
    const back: Direction = way.direction === 0 ? 1 : 0;
    const near = new MemoryQuicConn(host, way, way.direction, { local: from, remote: to }, alpn, fingerprint);
    const far = new MemoryQuicConn(host, way, back, { local: to, remote: from }, alpn, undefined);
    near.#peer = far;
    far.#peer = near;
    return [near, far];
  }

  /** The network breaks the connection. */
  breakOff(): void {
    this.lost(lostError({ code: "ECONNRESET" }));
  }

  protected async openBelow(): Promise<ByteStream> {
    while (this.#opened >= this.#openMax && !this.over) {
      await new Promise<void>((resolve) => this.#held.push(resolve));
    }
    this.#opened++;
    const { link } = this.#way;
    const peer = this.#peer;
    const [near, far] = MemoryConn.pair(link, this.#direction, this.#local, this.remote);
    near.over = () => {
      this.forget(near);
      this.#opened--;
      this.#held.shift()?.();
    };
    this.#send(() => {
      if (peer.over) return far.abort();
      far.over = () => peer.forget(far);
      peer.came(peer.keep(far));
    });
    return this.keep(near);
  }

  protected closeBelow(reason: SallyportError): void {
    this.#keepAlive.cancel();
    for (const resolve of this.#held.splice(0)) resolve();
    this.#way.link.conns.delete(this);
    this.onOver?.();
    const peer = this.#peer;
    this.#send(() => peer.lost(peerClosed(reason.code)));
  }

  #send(arrive: () => void): void {
    const peer = this.#peer;
    this.#way.link.carry(this.#direction, 0, 0, () => {
      peer.#heardMs = this.#host.time.nowMs;
      arrive();
    });
  }

  #keepAliveLater(): Timer {
    const { time } = this.#host;
    return time.at(time.nowMs + QUIC_KEEP_ALIVE_MS, () => {
      if (time.nowMs - this.#heardMs >= QUIC_IDLE_MS) return this.lost(lostError({ code: "ETIMEDOUT" }));
      this.#send(() => {});
      this.#keepAlive = this.#keepAliveLater();
    });
  }
}
