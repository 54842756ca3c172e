/** One handshake, byte for byte: `tests/vectors/curve.json` was checked by a second implementation. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import { keyPair, loadSodium } from "../../../src/crypto/sodium.ts";
import { AckRanges, type FrameSink, readFrames } from "../../../src/wire/curve/curve_frame.ts";
import {
  clientFirstKeys,
  PacketKey,
  serverFirstKeys,
  sessionKeys,
} from "../../../src/protocol/curve/key_schedule.ts";
import { headBytes, readCookie, readHello, readNumber } from "../../../src/wire/curve/curve_packet.ts";

interface Vectors {
  secret: Record<"c" | "s" | "m" | "e", string>;
  public: Record<"C" | "S" | "M" | "E", string>;
  first: string;
  client: string;
  ids: string;
  credential: string;
  welcome: string;
  packets: { type: string; from: "client" | "server"; bytes: string; number?: number; plain?: string }[];
}

const vectors = JSON.parse(
  readFileSync(fileURLToPath(new URL("../../vectors/curve.json", import.meta.url).href), "utf8"),
) as Vectors;
const hex = (text: string): Bytes => new Uint8Array(Buffer.from(text, "hex"));
const toHex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

for (const kind of ["native", "wasm"] as const) {
  describe(`PacketKey and the codecs of wire/curve: vectors, ${kind}`, () => {
    it("both sides derive the keys, open every packet and seal it again to the same bytes", async () => {
      const crypto = await loadSodium(kind);
      const own = keyPair(crypto, hex(vectors.secret.c));
      assert.equal(toHex(own.publicKey), vectors.public.C);
      const { S, M, E, C } = vectors.public;
      const client = clientFirstKeys(crypto, own, hex(S), hex(M))!;
      const server = serverFirstKeys(
        crypto,
        keyPair(crypto, hex(vectors.secret.s)),
        keyPair(crypto, hex(vectors.secret.m)),
        hex(C),
      )!;
      assert.equal(toHex(client.secret), vectors.first);
      assert.equal(toHex(server.secret), vectors.first);
      const shared = crypto.sharedSecret(own.secretKey, hex(E))!;
      assert.deepEqual(crypto.sharedSecret(hex(vectors.secret.e), hex(C)), shared);
      const session = sessionKeys(crypto, client, shared, hex(E));
      assert.equal(toHex(session.toServerId) + toHex(session.toClientId), vectors.ids);
      let opened = 0;
      for (const { type, from, bytes, number, plain } of vectors.packets) {
        const packet = hex(bytes);
        if (type === "HELLO") assert.equal(toHex(readHello(packet)!), C);
        else if (type === "COOKIE") {
          const cookie = readCookie(packet)!;
          assert.deepEqual([cookie.connectionKey, cookie.serverKey, cookie.minuteKey].map(toHex), [C, S, M]);
        } else {
          const head = headBytes(packet);
          const key = type === "INIT" ? server.init : from === "client" ? session.client : session.server;
          assert.equal(readNumber(packet, head), number);
          assert.equal(toHex(key.open(packet, head, new Uint8Array(2_048))!), plain);
          const again = new Uint8Array(packet.length);
          again.set(packet.subarray(0, head));
          assert.equal(key.seal(again, head, hex(plain!)), packet.length);
          assert.equal(toHex(again), bytes);
          opened++;
        }
      }
      assert.ok(opened >= 5);
      assert.ok(new PacketKey(crypto, hex(vectors.client)) instanceof PacketKey);
    });
  });
}

describe("PacketKey and the codecs of wire/curve: contents of the vectors", () => {
  it("INIT has the credential, the server's first DATA the welcome", () => {
    const texts: string[] = [];
    let params = 0;
    const ignore = () => {};
    const sink: FrameSink = {
      ping: ignore,
      ack: ignore,
      stream: (id, offset, data, fin) => {
        assert.deepEqual([id, offset, fin], [0, 0, true]);
        texts.push(new TextDecoder().decode(data));
      },
      reset: ignore,
      maxData: ignore,
      maxStreamData: ignore,
      maxStreams: ignore,
      pathChallenge: ignore,
      pathResponse: ignore,
      connectionId: ignore,
      close: ignore,
      params: () => void params++,
    };
    for (const { plain } of vectors.packets) {
      if (plain !== undefined) readFrames(hex(plain), sink, new AckRanges());
    }
    assert.deepEqual(texts, [vectors.credential, vectors.welcome]);
    assert.equal(params, 2);
  });
});
