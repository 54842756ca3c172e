/**
 * QUIC on Bun: `node:quic`. It doesn't apply back-pressure to the sender of an unread stream.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createPrivateKey } from "node:crypto";
import { appendFileSync } from "node:fs";
import { isIP, isIPv6 } from "node:net";
import { constants } from "node:os";
import process from "node:process";
import { setImmediate } from "node:timers";
import { setTimeout as delay } from "node:timers/promises";
import { type Bytes, sameBytes } from "../../bytes/bytes.ts";
import { errorMessage, SallyportError } from "../../errors.ts";
import type {
  NodeQuic,
  NodeQuicEndpoint,
  NodeQuicOptions,
  NodeQuicSession,
  NodeQuicStream,
  NodeQuicWriter,
} from "./bun_quic_types.ts";
import { resolveHost } from "../dial_by_name.ts";
import type { Address, ByteStream } from "../port.ts";
import type { Quic, QuicConn, QuicDialOptions, QuicListener, QuicListenOptions } from "../quic_port.ts";
import { certificateRefused, closedError, peerClosed, QuicConnBase, withinDeadline } from "../quic_shared.ts";
import { QuicByteStream, type QuicStreamIo } from "../quic_stream.ts";
import { dialError, listenError, plainHost, type Shared } from "../shared.ts";
import { QUIC_FAREWELL_MS, QUIC_IDLE_MS, QUIC_KEEP_ALIVE_MS, QUIC_STREAMS_MAX } from "../quic_port.ts";
import type { BunApi } from "./bun_types.ts";
import { formatHostPort } from "../../wire/ip/host_port.ts";

declare const Bun: BunApi;

/** QUIC on Bun: initial flow-control window of a stream; larger or smaller made no difference. */
export const QUIC_STREAM_WINDOW_BYTES = 1 * 1024 * 1024;
/**
 * QUIC: kernel buffers of a UDP socket, where we can set them: 5 ms at 6 Gbit/s, during which the program may be busy.
 */
export const QUIC_SOCKET_BUFFER_BYTES = 4 * 1024 * 1024;
/** QUIC: connections of one socket, and of one address: the maximum that Bun supports. */
export const QUIC_CONNECTIONS_MAX = 65_535;

/** A writer's method that waits for buffer space. */
const DRAINED = Symbol.for("Stream.drainableProtocol");
/** Bytes that Bun buffers for a stream before its writer has to wait. */
const WRITE_HIGH_BYTES = 256 * 1024;

/** Maximum interval for polling a stream that the peer doesn't allow yet. */
const PENDING_POLL_MAX_MS = 50;
/**
 * A Bun client closes the connection when this is exceeded, whatever limit it has announced: further streams must wait.
 */
const CLIENT_STREAMS_MAX = 100;
const SESSION: NodeQuicOptions = {
  keepAlive: QUIC_KEEP_ALIVE_MS,
  transportParams: {
    initialMaxStreamsBidi: QUIC_STREAMS_MAX,
    initialMaxStreamsUni: 0,
    // Bun's defaults give server-opened streams no window: a peer other than Bun couldn't send on them.
    initialMaxStreamDataBidiLocal: QUIC_STREAM_WINDOW_BYTES,
    initialMaxStreamDataBidiRemote: QUIC_STREAM_WINDOW_BYTES,
    // In seconds; Node uses milliseconds.
    maxIdleTimeout: QUIC_IDLE_MS / 1000,
  },
};
const SOCKET = {
  udpReceiveBufferSize: QUIC_SOCKET_BUFFER_BYTES,
  udpSendBufferSize: QUIC_SOCKET_BUFFER_BYTES,
};

/** Bun's QUIC. Rejects with `not_supported` if it has none. */
export async function bunQuic(shared: Shared): Promise<Quic> {
  let native: NodeQuic;
  try {
    // Split, since Deno's type checker doesn't know this module.
    native = await import("node:" + "quic") as NodeQuic;
  } catch (cause) {
    throw new SallyportError(
      "not_supported",
      `Cannot use QUIC: this Bun (${Bun.version}) doesn't support it, 1.4.5 does`,
      {
        side: "config",
        cause,
      },
    );
  }
  return {
    capabilities: {
      receiveBackPressure: false,
      reset: true,
      acceptedStreams: CLIENT_STREAMS_MAX,
      keyLog: true,
      // Bun 1.4.5 keeps state for every Initial for seconds, and scans all of it for each new one.
      withstandsFloods: false,
      retry: true,
    },
    listen: (options) => listen(native, options, shared),
    dial: (options) => dial(native, options, shared),
  };
}

async function listen(quic: NodeQuic, options: QuicListenOptions, shared: Shared): Promise<QuicListener> {
  let identity;
  try {
    const { keyPem, certificatePem } = options.identity;
    identity = { keys: [createPrivateKey(keyPem)], certs: [Buffer.from(certificatePem)] };
  } catch (cause) {
    throw new SallyportError(
      "config_invalid",
      `Cannot listen for QUIC: the key can't be used: ${errorMessage(cause)}`,
      {
        side: "config",
        cause,
      },
    );
  }
  let endpoint: NodeQuicEndpoint;
  try {
    endpoint = await quic.listen((session) => void shakeHands(session, options, shared), {
      ...SESSION,
      ...keyLogging(),
      alpn: options.alpn,
      sni: { "*": identity },
      endpoint: {
        ...SOCKET,
        address: formatHostPort(options),
        maxConnectionsPerHost: QUIC_CONNECTIONS_MAX,
        maxConnectionsTotal: QUIC_CONNECTIONS_MAX,
        validateAddress: true,
      },
    });
    // A failed bind shows only when the socket closes.
    if (endpoint.address === undefined) await endpoint.closed;
  } catch (cause) {
    throw listenError(options, { code: bindFailure(cause), cause });
  }
  endpoint.closed.catch(() => {});
  const { address: host, port } = endpoint.address!;
  return {
    address: { host: plainHost(host), port },
    close: () => void (endpoint.busy = true),
    end: () => end(endpoint),
  };
}

/** Lets the last packets of closed connections leave first: otherwise peers would notice only by the idle timeout. */
function end(endpoint: NodeQuicEndpoint): void {
  endpoint.busy = true;
  setTimeout(() => endpoint.destroy(), QUIC_FAREWELL_MS);
}

/** Logs TLS secrets in NSS key log format to the file named in the environment, if any. */
function keyLogging(): Pick<NodeQuicOptions, "keylog" | "onkeylog"> {
  const file = process.env.SSLKEYLOGFILE ?? "";
  if (file === "") return {};
  const onkeylog = (line: string) => {
    try {
      appendFileSync(file, `${line.trimEnd()}\n`, { mode: 0o600 });
    } catch (error) {
      console.error(`sallyport: Cannot write TLS secrets to ${file}: ${errorMessage(error)}`);
    }
  };
  return { keylog: true, onkeylog };
}

/** The system error code of a failed bind; Bun gives only its number. */
function bindFailure(cause: unknown): string {
  const number = Number(/Bind failure \((\d+)\)/.exec(errorMessage(cause))?.[1]);
  return Object.entries(constants.errno).find(([, value]) => value === number)?.[0] ?? errorMessage(cause);
}

async function shakeHands(
  session: NodeQuicSession,
  options: QuicListenOptions,
  shared: Shared,
): Promise<void> {
  const conn = new BunQuicConn(session, shared, undefined);
  try {
    conn.opened(await session.opened);
  } catch (error) {
    options.refused?.(closedError(error));
    return;
  }
  try {
    options.accept(conn);
  } catch (thrown) {
    conn.close(shared.faults.report("accept", thrown));
  }
}

async function dial(quic: NodeQuic, options: QuicDialOptions, shared: Shared): Promise<QuicConn> {
  options.signal?.throwIfAborted();
  const { trust } = options;
  if (!("fingerprint" in trust) && isIP(trust.serverName) !== 0) {
    const why =
      `Cannot connect to ${formatHostPort(options)}: Bun matches certificates only against names, and ` +
      `${trust.serverName} is an address; use a name that the certificate has`;
    throw new SallyportError("not_supported", why, { side: "config" });
  }
  const host = (await resolveHost(options.host))[0]!;
  let endpoint: NodeQuicEndpoint;
  let session: NodeQuicSession;
  try {
    endpoint = new quic.QuicEndpoint({ ...SOCKET, address: isIPv6(host) ? "[::]:0" : "0.0.0.0:0" });
    endpoint.closed.catch(() => {});
    session = await quic.connect(formatHostPort({ host, port: options.port }), {
      ...SESSION,
      transportParams: { ...SESSION.transportParams!, initialMaxStreamsBidi: CLIENT_STREAMS_MAX },
      ...keyLogging(),
      alpn: options.alpn,
      endpoint,
      ..."fingerprint" in trust
        ? { verifyPeer: "manual", ...isIP(options.host) === 0 ? { servername: options.host } : {} }
        : { verifyPeer: "auto", ca: [Buffer.from(trust.authoritiesPem)], servername: trust.serverName },
    });
  } catch (cause) {
    throw dialError(options, cause);
  }
  const conn = new BunQuicConn(session, shared, endpoint);
  const attempt = async (): Promise<QuicConn> => {
    try {
      conn.opened(await session.opened);
    } catch (cause) {
      const why = errorMessage(cause);
      throw /certificate/i.test(why) ? certificateRefused(options, why, cause) : dialError(options, cause);
    }
    const shown = conn.peerFingerprint;
    if ("fingerprint" in trust && (shown === undefined || !sameBytes(shown, trust.fingerprint))) {
      throw certificateRefused(options, "it isn't the pinned one");
    }
    return conn;
  };
  return await withinDeadline(
    options,
    attempt(),
    () =>
      conn.close(new SallyportError("aborted", "Cannot use connection: it was abandoned", { side: "local" })),
  );
}

class BunQuicConn extends QuicConnBase {
  alpn = "";
  peerFingerprint: Bytes | undefined;
  remote: Address = { host: "", port: 0 };
  readonly #native: NodeQuicSession;
  readonly #shared: Shared;
  /** A client's own socket, closed with its connection. */
  readonly #endpoint: NodeQuicEndpoint | undefined;
  /** A stream that the peer doesn't allow yet. */
  #pending: NodeQuicStream | undefined;
  /**
   * Resolves when the last requested stream is open. Streams are opened one at a time, since Bun doesn't close while
   * many are pending.
   */
  #allowed: Promise<void> = Promise.resolve();

  constructor(native: NodeQuicSession, shared: Shared, endpoint: NodeQuicEndpoint | undefined) {
    super(shared.faults);
    this.#native = native;
    this.#shared = shared;
    this.#endpoint = endpoint;
    // With a handler, Bun reports nothing as unhandled; `closed` reports the same error.
    native.onerror = () => {};
    native.onstream = (stream) => this.came(this.#stream(stream));
    native.closed.then(() => this.lost(peerClosed("")), (error) => this.lost(reasonOf(error)));
    native.opened.catch(() => {});
  }

  /** The handshake is complete. */
  opened(info: { readonly protocol: string }): void {
    this.alpn = info.protocol;
    const { address, port } = this.#native.path!.remote;
    this.remote = { host: plainHost(address), port };
    const print = this.#native.peerCertificate?.fingerprint256;
    if (print !== undefined) {
      this.peerFingerprint = new Uint8Array(Buffer.from(print.replaceAll(":", ""), "hex"));
    }
  }

  protected async openBelow(): Promise<ByteStream> {
    const before = this.#allowed;
    const next = Promise.withResolvers<void>();
    this.#allowed = next.promise;
    try {
      await before;
      if (this.over) throw new Error("the connection is over");
      return this.#stream(await this.#begin());
    } finally {
      next.resolve();
    }
  }

  /** Bun returns a stream before the peer allows it, and doesn't signal when it does. */
  async #begin(): Promise<NodeQuicStream> {
    const native = await this.#native.createBidirectionalStream({ highWaterMark: WRITE_HIGH_BYTES });
    for (let waitMs = 1; native.pending && !this.over; waitMs = Math.min(2 * waitMs, PENDING_POLL_MAX_MS)) {
      this.#pending = native;
      await delay(waitMs);
    }
    this.#pending = undefined;
    return native;
  }

  protected closeBelow(reason: SallyportError): void {
    this.#pending?.destroy(undefined, { code: 1 });
    this.#native.destroy(undefined, { code: 0, type: "application", reason: reason.code });
    this.#endpoint?.close().catch(() => {});
  }

  #stream(native: NodeQuicStream): QuicByteStream {
    return this.keep(
      new QuicByteStream(new BunStreamIo(native), this.#shared, (stream) => this.forget(stream)),
    );
  }
}

/** The reason a session ended: the peer's, or the runtime's. */
function reasonOf(error: unknown): SallyportError {
  const { type, message } = error as { type?: unknown; message?: unknown };
  if (type !== "application" || typeof message !== "string") return closedError(error);
  return peerClosed(message.replace(/^QUIC application error \d+:?\s*/, ""));
}

class BunStreamIo implements QuicStreamIo {
  readonly #native: NodeQuicStream;
  readonly #writer: NodeQuicWriter;
  #batches: AsyncIterator<Bytes[]> | undefined;
  #batch: Bytes[] = [];

  constructor(native: NodeQuicStream) {
    this.#native = native;
    native.onerror = () => {};
    native.closed.catch(() => {});
    native.highWaterMark = WRITE_HIGH_BYTES;
    this.#writer = native.writer;
  }

  async read(): Promise<Bytes | null> {
    if (this.#batch.length === 0) {
      this.#batches ??= this.#native[Symbol.asyncIterator]();
      const { value, done } = await this.#batches.next();
      if (done) {
        // When a connection fails, Bun first ends its streams cleanly and only then reports the failure.
        await new Promise<void>((resolve) => void setImmediate(resolve));
        return null;
      }
      this.#batch = value.reverse();
    }
    return this.#batch.pop()!;
  }

  /** Bun copies what it accepts, and accepts a whole buffer if it has any space. */
  async write(bytes: Bytes): Promise<void> {
    while (!this.#writer.writeSync(bytes)) {
      const drained = this.#writer[DRAINED]();
      if (drained === null) {
        if (this.#writer.desiredSize === null) throw new Error("the stream is closed");
        continue;
      }
      await drained;
    }
  }

  async closeWrite(): Promise<void> {
    await this.#writer.end();
  }

  destroy(): void {
    if (!this.#native.destroyed) this.#native.destroy(undefined, { code: 1 });
  }
}
