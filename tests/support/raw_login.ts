/**
 * Logs in at an edge by each transport of our own, over the runtime's sockets, with whatever proof a test likes.
 *
 * @module
 */
import type { Bytes } from "../../src/bytes/bytes.ts";
import { loadSodium } from "../../src/crypto/sodium.ts";
import { errorCode } from "../../src/errors.ts";
import type { Address, Conn, Runtime } from "../../src/runtime/port.ts";
import { connectCurve } from "../../src/transport/curve/socket_dialer.ts";
import { QUIC_ALPN } from "../../src/transport/quic/session.ts";
import {
  decodeVerdict,
  encodeLoginToken,
  LOGIN_CHALLENGE_BYTES,
} from "../../src/wire/login/login_messages.ts";
import { QuicEar, WatchedQuicStream } from "../conformance/quic_helpers.ts";
import { Watched } from "../conformance/runtime_helpers.ts";
import { logInSealed } from "./sealed_login.ts";

/** One login that a test makes up. */
export interface RawLogin {
  readonly runtime: Runtime;
  readonly edge: Address;
  /** Its public key, or its certificate's fingerprint. */
  readonly edgeKey: Bytes;
  readonly token: string;
  /** What is shown as the proof, where `channel` is what the edge binds it to. */
  prove(channel: Bytes): Bytes;
}

/** What the edge says: undefined for welcome, else why not. */
export type RawOutcome = string | undefined;

const utf8 = (text: string): Bytes => new TextEncoder().encode(text);

/** By transport. The session is ended again. */
export const rawLogins: Readonly<
  Record<"sealed" | "curve" | "quic", (login: RawLogin) => Promise<RawOutcome>>
> = {
  async sealed({ runtime, edge, edgeKey, token, prove }) {
    const watched = new Watched(await runtime.dial({ ...edge, timeoutMs: 5_000 }));
    let read = 0;
    const { refused } = await logInSealed({
      edgeKey,
      token,
      prove,
      unixSeconds: Math.floor(runtime.clock.wallMs() / 1000),
      write: (bytes) => void watched.write(bytes),
      next: async () => {
        await watched.received(read + 1);
        const chunk = new Uint8Array(Buffer.concat(watched.chunks).subarray(read));
        read += chunk.length;
        return chunk;
      },
    });
    watched.abort();
    return refused;
  },

  async curve({ runtime, edge, edgeKey, token, prove }) {
    try {
      const link = await connectCurve({
        runtime,
        server: edge,
        crypto: await loadSodium(),
        serverKey: edgeKey,
        credential: encodeLoginToken(utf8(token)),
        proof: prove,
        admitted: () => ({ stream() {}, streamClosed() {}, closed() {} }),
      });
      link.connection.close({ code: "closed", message: "" } as never);
      return undefined;
    } catch (error) {
      return errorCode(error);
    }
  },

  async quic({ runtime, edge, edgeKey, token, prove }) {
    const quic = await runtime.quic();
    const conn = await quic.dial({
      ...edge,
      alpn: QUIC_ALPN,
      trust: { fingerprint: edgeKey },
      timeoutMs: 5_000,
    });
    conn.attach(new QuicEar());
    const control = new WatchedQuicStream(await conn.open() as unknown as Conn);
    control.write(encodeLoginToken(utf8(token)));
    await control.received(LOGIN_CHALLENGE_BYTES);
    const said = () => new Uint8Array(Buffer.concat(control.chunks));
    control.write(prove(said().slice(0, LOGIN_CHALLENGE_BYTES)));
    await control.received(LOGIN_CHALLENGE_BYTES + 1);
    const length = said()[LOGIN_CHALLENGE_BYTES]!;
    await control.received(LOGIN_CHALLENGE_BYTES + 1 + length);
    const verdict = decodeVerdict(said().slice(LOGIN_CHALLENGE_BYTES, LOGIN_CHALLENGE_BYTES + 1 + length));
    conn.close({ code: "closed", message: "" } as never);
    return verdict;
  },
};
