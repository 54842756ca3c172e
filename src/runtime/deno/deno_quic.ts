/**
 * QUIC on Deno, which needs `"unstable": ["net"]`. It neither reports nor sends resets, has no Retry, and doesn't
 * expose the peer's certificate.
 *
 * @module
 */
import { isIPv6 } from "node:net";
import { setImmediate } from "node:timers";
import type { Bytes } from "../../bytes/bytes.ts";
import { errorMessage, SallyportError } from "../../errors.ts";
import { formatHostPort } from "../../wire/ip/host_port.ts";
import { PendingConnections } from "../../wire/ip/pending_connections.ts";
import { resolveHost } from "../dial_by_name.ts";
import type { Address, ByteStream } from "../port.ts";
import type {
  Quic,
  QuicConn,
  QuicDialOptions,
  QuicListener,
  QuicListenOptions,
  QuicTrust,
} from "../quic_port.ts";
import { certificateRefused, closedError, peerClosed, QuicConnBase, withinDeadline } from "../quic_shared.ts";
import { QuicByteStream, type QuicStreamIo } from "../quic_stream.ts";
import { dialError, listenError, plainHost, type Shared } from "../shared.ts";
import {
  QUIC_IDLE_MS,
  QUIC_KEEP_ALIVE_MS,
  QUIC_PENDING_MAX,
  QUIC_PENDING_PER_SOURCE_MAX,
  QUIC_STREAMS_MAX,
} from "../quic_port.ts";

/** Read buffer size of an idle stream, and of a busy one. */
const IDLE_READ_BYTES = 64;
const BUSY_READ_BYTES = 64 * 1024;

/**
 * QUIC on Deno: streams that an agent may open where {@link QUIC_PENDING_PER_SOURCE_MAX} connections or more are
 * unfinished. A connection then takes about 45 KB instead of 380.
 */
export const QUIC_STREAMS_WHEN_BUSY = 256;
/** QUIC on Deno: how long the runtime keeps a connection after its end: three probe time-outs without a measurement. */
export const QUIC_DRAIN_MS = 3_000;
/** QUIC on Deno: refused connections that the runtime still keeps; beyond these, new ones are refused unread. */
export const QUIC_DRAINING_MAX = 2_048;

const TRANSPORT: Deno.QuicTransportOptions = {
  keepAliveInterval: QUIC_KEEP_ALIVE_MS,
  maxIdleTimeout: QUIC_IDLE_MS,
  maxConcurrentBidirectionalStreams: QUIC_STREAMS_MAX,
  maxConcurrentUnidirectionalStreams: 0,
};

/** Deno's QUIC. Throws `not_supported` if the program was started without `--unstable-net`. */
export function denoQuic(shared: Shared): Quic {
  if (typeof Deno.QuicEndpoint !== "function") {
    throw new SallyportError(
      "not_supported",
      "Cannot use QUIC: Deno needs --unstable-net for it, which the deno.json beside mod.ts sets",
      { side: "config" },
    );
  }
  return {
    capabilities: {
      receiveBackPressure: true,
      reset: false,
      acceptedStreams: QUIC_STREAMS_MAX,
      keyLog: false,
      withstandsFloods: true,
      retry: false,
    },
    listen: (options) => listen(options, shared),
    dial: (options) => dial(options, shared),
  };
}

// deno-lint-ignore require-await -- exceptions must become rejections
async function listen(options: QuicListenOptions, shared: Shared): Promise<QuicListener> {
  let endpoint: Deno.QuicEndpoint;
  try {
    endpoint = new Deno.QuicEndpoint({ hostname: options.host, port: options.port });
  } catch (error) {
    throw listenError(options, error);
  }
  let listener: Deno.QuicListener;
  try {
    listener = endpoint.listen({
      cert: options.identity.certificatePem,
      key: options.identity.keyPem,
      alpnProtocols: [...options.alpn],
      ...TRANSPORT,
    });
  } catch (cause) {
    endpoint.close();
    const why = `Cannot listen for QUIC: the certificate or its key can't be used: ${errorMessage(cause)}`;
    throw new SallyportError("config_invalid", why, { side: "config", cause });
  }
  const state = { closed: false };
  void acceptLoop(listener, state, options, shared);
  const close = () => {
    if (state.closed) return;
    state.closed = true;
    listener.stop();
  };
  const { hostname, port } = endpoint.addr;
  return {
    address: { host: plainHost(hostname), port },
    close,
    end() {
      close();
      endpoint.close();
    },
  };
}

/**
 * Accepts connections; handshakes run concurrently. The address of one can be read only once it has been accepted
 * (before, reading any property of it makes `accept` unusable, Deno 2.9.6), so each is accepted as 0.5-RTT, which gives
 * a connection whose handshake still runs, and closed at once if its source has too many. Where even those are too
 * many, the rest are refused unread, which keeps no state.
 */
async function acceptLoop(
  listener: Deno.QuicListener,
  state: { closed: boolean },
  options: QuicListenOptions,
  shared: Shared,
): Promise<void> {
  const pending = new PendingConnections(QUIC_PENDING_MAX, QUIC_PENDING_PER_SOURCE_MAX);
  let draining = 0;
  const refuse = (conn: DenoQuicConn, error: SallyportError) => {
    conn.close(error);
    options.refused?.(error);
    draining++;
    shared.clock.after(QUIC_DRAIN_MS, () => void draining--);
  };
  const shakeHands = async (incoming: Deno.QuicIncoming, streams: number) => {
    const settings = { ...TRANSPORT, maxConcurrentBidirectionalStreams: streams, zeroRtt: true as const };
    const conn = new DenoQuicConn(incoming.accept(settings), shared, { streams });
    const left = pending.enter(conn.remote.host);
    if (left === undefined) return refuse(conn, tooMany());
    try {
      const error = await conn.established();
      if (error !== undefined) return refuse(conn, error);
    } finally {
      left();
    }
    try {
      options.accept(conn);
    } catch (thrown) {
      conn.close(shared.faults.report("accept", thrown));
    }
  };
  while (!state.closed) {
    try {
      const incoming = await listener.incoming();
      if (pending.size >= QUIC_PENDING_MAX || draining >= QUIC_DRAINING_MAX) {
        incoming.refuse();
        options.refused?.(tooMany());
        continue;
      }
      const busy = pending.size + draining >= QUIC_PENDING_PER_SOURCE_MAX;
      shakeHands(incoming, busy ? QUIC_STREAMS_WHEN_BUSY : QUIC_STREAMS_MAX)
        .catch((error) => options.refused?.(closedError(error)));
    } catch {
      // A connection that ended before it was handled; the pause keeps a broken listener from monopolizing the thread.
      if (!state.closed) await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
}

function tooMany(): SallyportError {
  const why = "Cannot accept connection: too many are unfinished";
  return new SallyportError("limit_exceeded", why, { side: "local", retryable: true });
}

async function dial(options: QuicDialOptions, shared: Shared): Promise<QuicConn> {
  options.signal?.throwIfAborted();
  const host = (await resolveHost(options.host))[0]!;
  let endpoint: Deno.QuicEndpoint;
  try {
    endpoint = new Deno.QuicEndpoint({ hostname: isIPv6(host) ? "::" : "0.0.0.0", port: 0 });
  } catch (cause) {
    throw dialError(options, cause);
  }
  const { trust } = options;
  const attempt = async (): Promise<QuicConn> => {
    try {
      const native = await Deno.connectQuic({
        hostname: host,
        port: options.port,
        alpnProtocols: [options.alpn],
        endpoint,
        ...trusting(trust),
        ...TRANSPORT,
      });
      const peerFingerprint = "fingerprint" in trust ? trust.fingerprint : undefined;
      return new DenoQuicConn(native, shared, { endpoint, peerFingerprint });
    } catch (cause) {
      const why = errorMessage(cause);
      // Deno compares the fingerprint first: the certificate is the pinned one.
      if ("fingerprint" in trust && OUT_OF_DATE.test(why)) {
        throw outOfDate(options, shared.clock.wallMs(), cause);
      }
      throw /certificate/i.test(why) ? certificateRefused(options, why, cause) : dialError(options, cause);
    }
  };
  return await withinDeadline(options, attempt(), () => endpoint.close());
}

/** How Deno says that a certificate has expired, or isn't valid yet. */
const OUT_OF_DATE = /invalid peer certificate: .*(expired|not ?valid ?yet|not valid until)/i;

function outOfDate({ host, port }: QuicDialOptions, wallMs: number, cause: unknown): SallyportError {
  const message =
    `Cannot connect to ${formatHostPort({ host, port })} by QUIC: its certificate is the pinned one, ` +
    `but isn't valid on ${new Date(wallMs).toISOString().slice(0, 10)}, and Deno's QUIC judges pinned ` +
    "certificates by dates. Upgrade or restart the edge, which then shows one for any date; or use another transport";
  return new SallyportError("not_supported", message, { side: "local", retryable: true, cause });
}

function trusting(trust: QuicTrust): Partial<Deno.ConnectQuicOptions<false>> {
  if (!("fingerprint" in trust)) return { caCerts: [trust.authoritiesPem], serverName: trust.serverName };
  // Deno inherits this option from its WebTransport; it isn't in the types.
  const hashes = { serverCertificateHashes: [{ algorithm: "sha-256", value: trust.fingerprint }] };
  return hashes as Partial<Deno.ConnectQuicOptions<false>>;
}

/**
 * Native memory of a connection, most of it for each stream that the peer may open. JavaScript's garbage collector
 * doesn't see it and leaves closed connections uncollected (1.4 GB for 3,200 of them, measured), so each also reserves
 * that much memory, which is never touched and so never committed.
 */
const NATIVE_BYTES = 36 * 1024;
const NATIVE_STREAM_BYTES = 76;

/** What a {@link DenoQuicConn} has besides its connection. */
interface DenoQuicConnOptions {
  /** A client's own socket, closed with its connection. */
  readonly endpoint?: Deno.QuicEndpoint;
  readonly peerFingerprint?: Bytes | undefined;
  /** Streams that the peer may open. */
  readonly streams?: number;
}

class DenoQuicConn extends QuicConnBase {
  /** Accounts to the garbage collector for the connection's native memory. */
  protected readonly weight: ArrayBuffer;
  readonly #native: Deno.QuicConn;
  readonly #shared: Shared;
  readonly #options: DenoQuicConnOptions;
  #remote: Address;

  constructor(native: Deno.QuicConn, shared: Shared, options: DenoQuicConnOptions) {
    super(shared.faults);
    this.#native = native;
    this.#shared = shared;
    this.#options = options;
    this.weight = new ArrayBuffer(NATIVE_BYTES + NATIVE_STREAM_BYTES * (options.streams ?? QUIC_STREAMS_MAX));
    this.#remote = addressOf(native.remoteAddr);
    native.closed.then(
      ({ reason }) => this.lost(peerClosed(reason)),
      (error) => this.lost(closedError(error)),
    );
    void this.#acceptStreams();
  }

  /** Waits for the handshake. Resolves with the reason if it failed. */
  async established(): Promise<SallyportError | undefined> {
    // It resolves on failure too, along with `closed`, whose handlers have run one turn later.
    await this.#native.handshake;
    await new Promise((resolve) => setImmediate(resolve));
    return this.endedWith;
  }

  get alpn(): string {
    return this.#native.protocol ?? "";
  }

  get peerFingerprint(): Bytes | undefined {
    return this.#options.peerFingerprint;
  }

  get remote(): Address {
    // A closed connection no longer has it.
    if (!this.over) this.#remote = addressOf(this.#native.remoteAddr);
    return this.#remote;
  }

  protected async openBelow(): Promise<ByteStream> {
    return this.#stream(await this.#native.createBidirectionalStream({ waitUntilAvailable: true }));
  }

  protected closeBelow(reason: SallyportError): void {
    this.#native.close({ closeCode: 0, reason: reason.code });
    this.#options.endpoint?.close();
  }

  async #acceptStreams(): Promise<void> {
    try {
      for await (const native of this.#native.incomingBidirectionalStreams) this.came(this.#stream(native));
    } catch {
      // `closed` reports why there are no more.
    }
  }

  #stream(native: Deno.QuicBidirectionalStream): QuicByteStream {
    return this.keep(
      new QuicByteStream(new DenoStreamIo(native), this.#shared, (stream) => this.forget(stream)),
    );
  }
}

function addressOf({ hostname, port }: Deno.NetAddr): Address {
  return { host: plainHost(hostname), port };
}

class DenoStreamIo implements QuicStreamIo {
  readonly #reader: ReadableStreamBYOBReader;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  #buffer: Bytes | undefined;
  #bufferBytes = IDLE_READ_BYTES;

  constructor(native: Deno.QuicBidirectionalStream) {
    this.#reader = native.readable.getReader({ mode: "byob" });
    this.#writer = native.writable.getWriter();
    // The loops detect failures; nothing else awaits these.
    this.#reader.closed.catch(() => {});
    this.#writer.closed.catch(() => {});
    this.#writer.ready.catch(() => {});
  }

  async read(): Promise<Bytes | null> {
    const buffer = this.#buffer?.length === this.#bufferBytes
      ? this.#buffer
      : new Uint8Array(this.#bufferBytes);
    this.#buffer = undefined;
    const { value, done } = await this.#reader.read(buffer);
    if (done || value === undefined) return null;
    // A full read switches to the large buffer, a small one to the small buffer: an idle stream mustn't hold much
    // memory.
    if (value.length === this.#bufferBytes) this.#bufferBytes = BUSY_READ_BYTES;
    else if (value.length <= IDLE_READ_BYTES) this.#bufferBytes = IDLE_READ_BYTES;
    this.#buffer = new Uint8Array(value.buffer);
    return value as Bytes;
  }

  write(bytes: Bytes): Promise<void> {
    return this.#writer.write(bytes);
  }

  closeWrite(): Promise<void> {
    return this.#writer.close();
  }

  destroy(): void {
    this.#reader.cancel().catch(() => {});
    this.#writer.abort().catch(() => {});
  }
}
