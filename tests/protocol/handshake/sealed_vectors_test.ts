/**
 * `tests/vectors/sealed.json` against the code that wrote it, and against a second implementation: this file's own, made
 * from docs/protocols/sealed.md with node:crypto's X25519 and ChaCha20-Poly1305 where the runtime has them.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createDecipheriv } from "node:crypto";
import { readFile } from "node:fs/promises";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { loadSodium } from "../../../src/crypto/sodium.ts";
import { makeSealedVectors } from "../../support/sealed_vectors.ts";

interface Record {
  readonly data: string;
  readonly wire: string;
}
interface Session {
  readonly aes: boolean;
  readonly agent: { readonly salt: string; readonly secret_key: string };
  readonly edge: { readonly salt: string; readonly secret_key: string };
  readonly first_flight: string;
  readonly answer: string;
  readonly agent_key: string;
  readonly edge_key: string;
  readonly agent_records: Record[];
  readonly edge_records: Record[];
}
interface Vectors {
  readonly edge_secret_key: string;
  readonly edge_public_key: string;
  readonly unix_seconds: number;
  readonly sessions: Session[];
}

const path = fileURLToPath(new URL("../../vectors/sealed.json", import.meta.url).href);
const written = await readFile(path, "utf8");
const vectors = JSON.parse(written) as Vectors;
const sodium = await loadSodium();
const bytes = (hex: string): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.from(hex, "hex"));
const hex = (value: Uint8Array): string => Buffer.from(value).toString("hex");
const join = (...parts: Uint8Array[]): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.concat(parts));
const label = (text: string): Uint8Array => Buffer.from(`sallyport sealed 2 ${text}`);

/** BLAKE2b of the parts, under a key. */
function b2b(size: number, key: Uint8Array<ArrayBuffer> | undefined, ...parts: Uint8Array[]) {
  return sodium.hash(size, join(...parts), key);
}

/** Opens a box by its number. */
function box(key: Uint8Array<ArrayBuffer>, count: number, sealed: Uint8Array<ArrayBuffer>) {
  const nonce = new Uint8Array(12);
  nonce[4] = count;
  const plain = new Uint8Array(sealed.length - 16);
  assert.ok(sodium.open(sealed, plain, nonce, key), `box ${count} opens`);
  return plain;
}

function aesBox(key: Uint8Array<ArrayBuffer>, count: number, sealed: Uint8Array<ArrayBuffer>) {
  const nonce = new Uint8Array(12);
  nonce[4] = count;
  const decipher = createDecipheriv("aes-256-gcm", key, nonce);
  decipher.setAuthTag(sealed.subarray(sealed.length - 16));
  const plain = decipher.update(sealed.subarray(0, sealed.length - 16));
  decipher.final();
  return new Uint8Array(plain);
}

describe("SealedAgentHandshake and SealedEdgeHandshake: tests/vectors/sealed.json", () => {
  it("is what the code makes, with either libsodium", async () => {
    assert.equal(`${JSON.stringify(makeSealedVectors(sodium), null, 2)}\n`, written);
    assert.equal(`${JSON.stringify(makeSealedVectors(await loadSodium("wasm")), null, 2)}\n`, written);
  });

  for (const session of vectors.sessions) {
    it(`follows from docs/protocols/sealed.md ${session.aes ? "with AES-256-GCM" : "alone"}`, () => {
      const S = bytes(vectors.edge_public_key);
      const flight = bytes(session.first_flight);
      const answer = bytes(session.answer);
      const [salt, masked] = [flight.slice(0, 32), flight.slice(32, 64)];
      assert.equal(hex(salt), session.agent.salt);
      const mask = b2b(32, S, label("mask"), salt);
      const E = masked.map((byte, i) => byte ^ mask[i]!);
      assert.deepEqual(E, sodium.publicKey(bytes(session.agent.secret_key)));
      const es = sodium.sharedSecret(bytes(vectors.edge_secret_key), E)!;
      const hello = box(b2b(32, es, label("hello"), S, salt, E), 0, flight.slice(64, 95));
      const view = new DataView(hello.buffer);
      assert.deepEqual(
        [view.getUint32(0), view.getBigUint64(6), hello[14]],
        [2, BigInt(vectors.unix_seconds), session.aes ? 1 : 0],
      );
      const padding = view.getUint16(4);
      assert.equal(flight.length, 95 + padding + 16);
      assert.deepEqual(
        box(b2b(32, es, label("hello"), S, salt, E), 1, flight.slice(95)),
        new Uint8Array(padding),
      );

      const flightHash = b2b(64, undefined, flight);
      assert.equal(hex(answer.slice(0, 32)), session.edge.salt);
      const answerKey = b2b(32, es, label("answer"), flightHash, answer.slice(0, 32));
      const head = box(answerKey, 0, answer.slice(32, 83));
      const F = head.slice(0, 32);
      assert.deepEqual(F, sodium.publicKey(bytes(session.edge.secret_key)));
      assert.equal(head[34], session.aes ? 1 : 0);
      const answerPadding = new DataView(head.buffer).getUint16(32);
      assert.deepEqual(box(answerKey, 1, answer.slice(83)), new Uint8Array(answerPadding));

      const ee = sodium.sharedSecret(bytes(session.agent.secret_key), F)!;
      const transcript = b2b(64, undefined, S, flightHash, answer);
      const root = b2b(64, ee, label("session"), es, transcript);
      const agentKey = b2b(32, root, label("agent to edge"));
      const edgeKey = b2b(32, root, label("edge to agent"));
      assert.deepEqual([hex(agentKey), hex(edgeKey)], [session.agent_key, session.edge_key]);

      for (
        const [key, records] of [[agentKey, session.agent_records], [edgeKey, session.edge_records]] as const
      ) {
        const bulk = b2b(32, key, label("bulk"));
        records.forEach(({ data, wire }, i) => {
          const sealed = bytes(wire);
          const head = new DataView(box(key, 2 * i, sealed.slice(0, 22)).buffer);
          const [dataBytes, paddingBytes] = [head.getUint32(0), head.getUint16(4)];
          assert.equal(sealed.length, 22 + dataBytes + paddingBytes + 16);
          const large = dataBytes + paddingBytes >= 4096;
          const open = large && session.aes ? aesBox : box;
          const body = open(large ? bulk : key, 2 * i + 1, sealed.slice(22));
          assert.equal(hex(body.slice(0, dataBytes)), data);
          assert.deepEqual(body.slice(dataBytes), new Uint8Array(paddingBytes));
        });
      }
    });
  }
});
