/**
 * For the suite of the QUIC port: certificates, and a pair of connections whose streams are watched.
 *
 * @module
 */
import { certificateFingerprint, makeAuthority, makeCertificate } from "../../src/crypto/certificate.ts";
import { SallyportError } from "../../src/errors.ts";
import type { Bytes, ByteStream, Conn } from "../../src/runtime/port.ts";
import type {
  Quic,
  QuicConn,
  QuicConnHandler,
  QuicIdentity,
  QuicListener,
  QuicTrust,
} from "../../src/runtime/quic_port.ts";
import { Watched } from "./runtime_helpers.ts";

export const ALPN = "sallyport-test";

/** What the tests' servers show. */
export interface TestIdentities {
  /** Good at any date, as an edge's must be. */
  readonly own: QuicIdentity;
  readonly fingerprint: Bytes;
  readonly authority: QuicIdentity;
  /** For edge.test and 127.0.0.1, from the authority. */
  readonly issued: QuicIdentity;
}

let made: Promise<TestIdentities> | undefined;

/** Certificates, made once; good at the date of virtual time too. */
export function identities(): Promise<TestIdentities> {
  return made ??= make();
}

async function make(): Promise<TestIdentities> {
  const wallMs = Date.UTC(2026, 0, 1);
  const years = { validDays: 30 * 365, wallMs };
  const own = await makeCertificate({
    ...{ commonName: "edge", names: ["edge.test"] },
    ...{ validDays: "always", wallMs },
  });
  const authority = await makeAuthority({ commonName: "authority", ...years });
  const issued = await makeCertificate({
    commonName: "edge",
    names: ["edge.test", "127.0.0.1"],
    authority,
    ...years,
  });
  return { own, fingerprint: certificateFingerprint(own.certificatePem), authority, issued };
}

/** A stream, watched. */
export class WatchedQuicStream extends Watched {
  constructor(stream: ByteStream, options: { keep?: boolean; attach?: boolean } = {}) {
    // A stream has no addresses, which nobody asks a watched one for.
    super(stream as Conn, options);
  }
}

/** A connection's handler that notes what it hears. */
export class QuicEar implements QuicConnHandler {
  readonly streams: ByteStream[] = [];
  endedWith: SallyportError | undefined;
  #waiting: (() => void)[] = [];

  stream(stream: ByteStream): void {
    if (this.endedWith !== undefined) throw new Error("a stream after the end");
    this.streams.push(stream);
    this.#wake();
  }
  ended(error: SallyportError): void {
    if (this.endedWith !== undefined) throw new Error("a second end");
    this.endedWith = error;
    this.#wake();
  }
  async until(met: () => boolean): Promise<void> {
    while (!met()) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }
  get over(): Promise<void> {
    return this.until(() => this.endedWith !== undefined);
  }
  #wake(): void {
    for (const open of this.#waiting.splice(0)) open();
  }
}

/** One end of a connection. */
export interface QuicEnd {
  readonly conn: QuicConn;
  readonly ear: QuicEar;
}

/** A listener and the connections that come to it. */
export class QuicPairs {
  readonly listener: QuicListener;
  readonly trust: QuicTrust;
  readonly refused: SallyportError[];
  readonly #quic: Quic;
  readonly #host: string;
  readonly #accepted: QuicEnd[];
  readonly #bell: QuicEar;

  private constructor(
    quic: Quic,
    host: string,
    listener: QuicListener,
    fingerprint: Bytes,
    state: { accepted: QuicEnd[]; bell: QuicEar; refused: SallyportError[] },
  ) {
    this.#quic = quic;
    this.#host = host;
    this.listener = listener;
    this.trust = { fingerprint };
    this.#accepted = state.accepted;
    this.#bell = state.bell;
    this.refused = state.refused;
  }

  /** Whose clients pin the listener's certificate. */
  static async open(quic: Quic, host: string, given?: QuicIdentity): Promise<QuicPairs> {
    const identity = given ?? (await identities()).own;
    const state = { accepted: [] as QuicEnd[], bell: new QuicEar(), refused: [] as SallyportError[] };
    const listener = await quic.listen({
      host,
      port: 0,
      identity,
      alpn: ["other", ALPN],
      accept: (conn) => {
        const ear = new QuicEar();
        conn.attach(ear);
        state.accepted.push({ conn, ear });
        // Any event will do to wake who waits.
        state.bell.stream(undefined as unknown as ByteStream);
      },
      refused: (error) => {
        state.refused.push(error);
        state.bell.stream(undefined as unknown as ByteStream);
      },
    });
    return new QuicPairs(quic, host, listener, certificateFingerprint(identity.certificatePem), state);
  }

  /** Connections that have been accepted. */
  get accepted(): readonly QuicEnd[] {
    return this.#accepted;
  }

  /** Waits for what `accept` and `refused` bring. */
  until(met: () => boolean): Promise<void> {
    return this.#bell.until(met);
  }

  dial(
    options: { trust?: QuicTrust; alpn?: string; timeoutMs?: number; signal?: AbortSignal } = {},
  ): Promise<QuicConn> {
    return this.#quic.dial({
      host: this.#host,
      port: this.listener.address.port,
      alpn: ALPN,
      trust: this.trust,
      timeoutMs: 20_000,
      ...options,
    });
  }

  async connect(): Promise<{ client: QuicEnd; server: QuicEnd }> {
    const count = this.#accepted.length;
    const conn = await this.dial();
    const ear = new QuicEar();
    conn.attach(ear);
    await this.until(() => this.#accepted.length > count);
    return { client: { conn, ear }, server: this.#accepted[count]! };
  }

  /** Ends everything, and waits until the connections have said so. */
  async end(...ends: QuicEnd[]): Promise<void> {
    const over = new SallyportError("shutdown", "Cannot go on: the test is over", { side: "local" });
    for (const { conn } of ends) conn.close(over);
    await Promise.all(ends.map(({ ear }) => ear.over));
    this.listener.end();
  }
}

/** A stream from one end to the other, watched at both. The opener writes a byte, without which nobody would see it. */
export async function joinStreams(
  from: QuicEnd,
  to: QuicEnd,
  options: { keep?: boolean } = {},
): Promise<{ near: WatchedQuicStream; far: WatchedQuicStream }> {
  const count = to.ear.streams.length;
  const near = new WatchedQuicStream(await from.conn.open(), options);
  near.write(new Uint8Array([42]));
  await to.ear.until(() => to.ear.streams.length > count);
  const far = new WatchedQuicStream(to.ear.streams[count]!, options);
  await far.received(1);
  return { near, far };
}
