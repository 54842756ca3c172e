/**
 * Logs in at an edge by each transport of our own, over the runtime's sockets, with whatever proof a test likes.
 *
 * @module
 */
import type { Bytes } from "../../src/bytes/bytes.ts";
import { chooseAeads } from "../../src/crypto/aead.ts";
import { systemRandom } from "../../src/crypto/random.ts";
import { loadSodium } from "../../src/crypto/sodium.ts";
import { errorCode } from "../../src/errors.ts";
import { SealedAgentHandshake } from "../../src/protocol/handshake/sealed_agent.ts";
import { RecordOpener, RecordScratch, RecordSealer } from "../../src/protocol/records/sealed_records.ts";
import type { Address, Conn, Runtime } from "../../src/runtime/port.ts";
import { connectCurve } from "../../src/transport/curve/socket_dialer.ts";
import { QUIC_ALPN } from "../../src/transport/quic/session.ts";
import {
  decodeVerdict,
  encodeLogin,
  encodeLoginToken,
  LOGIN_CHALLENGE_BYTES,
} from "../../src/wire/login/login_messages.ts";
import { QuicEar, WatchedQuicStream } from "../conformance/quic_helpers.ts";
import { Watched } from "../conformance/runtime_helpers.ts";

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
    const sodium = await loadSodium();
    const aeads = chooseAeads(sodium);
    const unixSeconds = Math.floor(runtime.clock.wallMs() / 1000);
    const handshake = new SealedAgentHandshake({ sodium, edgePublicKey: edgeKey, unixSeconds });
    const watched = new Watched(await runtime.dial({ ...edge, timeoutMs: 5_000 }));
    watched.write(handshake.first);
    let read = 0;
    const next = async (): Promise<Bytes> => {
      await watched.received(read + 1);
      const chunk = new Uint8Array(Buffer.concat(watched.chunks).subarray(read));
      read += chunk.length;
      return chunk;
    };
    let opened = handshake.push(await next());
    while (opened === undefined) opened = handshake.push(await next());
    const ciphers = { sodium, small: aeads.small, bulk: aeads.chacha };
    const sealer = new RecordSealer(
      { ...ciphers, key: opened.keys.agent },
      new RecordScratch(),
      systemRandom,
    );
    const opener = new RecordOpener({ ...ciphers, key: opened.keys.edge }, new RecordScratch());
    watched.write(
      sealer.seal(encodeLogin({ token: utf8(token), proof: prove(opened.keys.channel) })).slice(),
    );
    let record = opener.openOne(await next());
    while (record === undefined) record = opener.openOne(await next());
    const verdict = decodeVerdict(record.data.slice());
    watched.abort();
    return verdict;
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
