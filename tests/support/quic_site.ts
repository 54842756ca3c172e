/**
 * For tests of the QUIC transport: an edge in memory, and raw connections to it.
 *
 * @module
 */
import { FernetRing, generateFernetKey } from "../../src/crypto/fernet.ts";
import type { SallyportError } from "../../src/errors.ts";
import { type CreatedToken, createToken, tryOpenToken } from "../../src/protocol/token/token.ts";
import { createMemoryNetwork } from "../../src/runtime/memory/memory.ts";
import type { Bytes } from "../../src/runtime/port.ts";
import type { QuicConn } from "../../src/runtime/quic_port.ts";
import type { Session } from "../../src/transport/port.ts";
import { listenQuic } from "../../src/transport/quic/accept.ts";
import { QUIC, QUIC_ALPN } from "../../src/transport/quic/session.ts";
import { LOGIN_CHALLENGE_BYTES, PROOF_BYTES } from "../../src/wire/login/login_messages.ts";
import { identities, QuicEar, WatchedQuicStream } from "../conformance/quic_helpers.ts";
import { Ear } from "../conformance/transport_helpers.ts";
import { loginOf } from "./login.ts";

const HOST = "10.0.0.1";

export const utf8 = (text: string): Bytes => new TextEncoder().encode(text);

/** An edge in memory, and a raw connection to it. */
export class QuicSite {
  readonly network = createMemoryNetwork({ seed: 3 });
  readonly runtime = this.network.runtime(HOST);
  readonly ring = new FernetRing([generateFernetKey()]);
  readonly ear = new Ear();
  readonly refusals: SallyportError[] = [];
  session: Session | undefined;
  port = 0;

  async listen(): Promise<void> {
    const { own } = await identities();
    const listener = await listenQuic({
      runtime: this.runtime,
      host: HOST,
      port: 0,
      identity: own,
      admission: {
        openToken: (bytes) => tryOpenToken(this.ring, bytes, this.runtime.clock.wallMs() / 1000),
        authorize: () => {},
        admit: (_, session) => {
          this.session = session;
          return this.ear;
        },
        refused: (error) => void this.refusals.push(error),
      },
    });
    this.port = listener.address.port;
  }

  token(ttlSeconds = 3600): CreatedToken {
    const nowMs = this.runtime.clock.wallMs();
    return createToken(this.ring, { hostname: "a.test", ttlSeconds, nowMs });
  }

  async dial(): Promise<{ conn: QuicConn; ear: QuicEar }> {
    const { fingerprint } = await identities();
    const quic = await this.network.runtime("10.0.0.2").quic();
    const conn = await quic.dial({
      host: HOST,
      port: this.port,
      alpn: QUIC_ALPN,
      trust: { fingerprint },
      timeoutMs: 5_000,
    });
    const ear = new QuicEar();
    conn.attach(ear);
    return { conn, ear };
  }

  async login(): Promise<{ conn: QuicConn; ear: QuicEar; control: WatchedQuicStream }> {
    const { conn, ear } = await this.dial();
    const control = new WatchedQuicStream(await conn.open());
    await showToken(control, this.token());
    await control.received(LOGIN_CHALLENGE_BYTES + 1);
    return { conn, ear, control };
  }

  /** So much virtual time goes by. */
  later(forMs: number): Promise<void> {
    return new Promise((resolve) => void this.runtime.clock.after(forMs, resolve));
  }
}

/** Logs in on a control stream that nothing has been said on: token, challenge, proof, and `behind`. */
export async function showToken(
  control: ByteCollector,
  token: CreatedToken,
  behind: Bytes = new Uint8Array(0),
): Promise<void> {
  const { fingerprint } = await identities();
  const login = loginOf(token, { transport: QUIC, edgeKey: fingerprint, channel: NO_CHALLENGE });
  control.write(login.subarray(0, -PROOF_BYTES));
  await control.received(LOGIN_CHALLENGE_BYTES);
  const channel = new Uint8Array(Buffer.concat(control.chunks)).slice(0, LOGIN_CHALLENGE_BYTES);
  const proved = loginOf(token, { transport: QUIC, edgeKey: fingerprint, channel });
  control.write(new Uint8Array(Buffer.concat([proved.subarray(-PROOF_BYTES), behind])));
}

/** What {@link showToken} needs of a watched stream. */
interface ByteCollector {
  readonly chunks: readonly Bytes[];
  write(bytes: Bytes): unknown;
  received(byteLength: number): Promise<unknown>;
}

const NO_CHALLENGE: Bytes = new Uint8Array(LOGIN_CHALLENGE_BYTES);
