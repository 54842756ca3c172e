/** BoxChain: nonces, keys and the choice of the cipher, seen by a cipher of the test's own. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Aead } from "../../../src/crypto/aead.ts";
import { loadSodium } from "../../../src/crypto/sodium.ts";
import { bulkKey, nextKey } from "../../../src/protocol/handshake/sealed_keys.ts";
import {
  BoxChain,
  SEALED_BULK_MIN_BYTES,
  SEALED_REKEY_RECORDS,
} from "../../../src/protocol/records/box_chain.ts";

const sodium = await loadSodium();
const KEY = new Uint8Array(32).fill(5);
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

/** A chain, and what its ciphers were asked for. */
function bench() {
  const asked: string[] = [];
  let opens = true;
  const cipher = (name: string): Aead => ({
    name,
    seal: (_plain, _into, nonce, key) => void asked.push(`${name} ${hex(nonce)} ${hex(key)}`),
    open: (_sealed, _into, nonce, key) => {
      asked.push(`${name} ${hex(nonce)} ${hex(key)}`);
      return opens;
    },
  } as Aead);
  const chain = new BoxChain({ sodium, small: cipher("small"), bulk: cipher("bulk"), key: KEY });
  return {
    chain,
    asked: () => asked.splice(0),
    opens: (value: boolean) => void (opens = value),
    seal: (byteLength: number) => chain.seal(new Uint8Array(byteLength), new Uint8Array(0)),
    open: (byteLength: number) => chain.open(new Uint8Array(0), new Uint8Array(byteLength)),
  };
}

const small = (nonce: string, key: Uint8Array) => `small ${nonce.padEnd(24, "0")} ${hex(key)}`;
const bulk = (nonce: string, key: Uint8Array) =>
  `bulk ${nonce.padEnd(24, "0")} ${hex(bulkKey(sodium, key as never))}`;

describe("BoxChain", () => {
  it("takes the bulk cipher and its key for boxes of 4 KiB and more, both ways", () => {
    assert.equal(SEALED_BULK_MIN_BYTES, 4_096);
    for (const way of ["seal", "open"] as const) {
      const test = bench();
      test[way](0);
      test[way](4_095);
      test[way](4_096);
      test[way](70_000);
      const [first, second, third, fourth] = test.asked();
      assert.deepEqual([first, second], [small("", KEY), small("0000000001", KEY)], way);
      assert.deepEqual([third, fourth], [bulk("0000000002", KEY), bulk("0000000003", KEY)], way);
    }
  });

  it("counts boxes that open, and no others", () => {
    const { open, opens, asked } = bench();
    assert.equal(open(1), true);
    opens(false);
    assert.equal(open(1), false);
    assert.equal(open(1), false);
    assert.deepEqual(asked().slice(1), [small("0000000001", KEY), small("0000000001", KEY)]);
  });

  it("goes on with the next key, and nonces from 0, after 32,768 records of two boxes", () => {
    assert.equal(SEALED_REKEY_RECORDS, 32_768);
    const { seal, asked } = bench();
    for (let i = 0; i < 65_536; i++) seal(0);
    const nonces = asked().map((call) => call.split(" ")[1]);
    assert.equal(nonces[256], "00000000000100000000".padEnd(24, "0"));
    assert.equal(nonces[65_535], "00000000ffff0000".padEnd(24, "0"));
    assert.equal(new Set(nonces).size, 65_536);
    const second = nextKey(sodium, KEY);
    seal(0);
    seal(4_096);
    assert.deepEqual(asked(), [small("", second), bulk("0000000001", second)]);
    for (let i = 2; i < 65_536; i++) seal(0);
    asked();
    seal(0);
    assert.deepEqual(asked(), [small("", nextKey(sodium, second))]);
  });
});
