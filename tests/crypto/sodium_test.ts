import assert from "node:assert/strict";
import { getCiphers } from "node:crypto";
import { describe, it } from "node:test";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { chooseAeads, NodeAead } from "../../src/crypto/aead.ts";
import { NativeSodium } from "../../src/crypto/sodium_native.ts";
import { loadWasmSodium } from "../../src/crypto/sodium_wasm.ts";
import { nodeHasX25519 } from "../../src/crypto/x25519_node.ts";
import {
  KEY_BYTES,
  loadSodium,
  makeKeyPair,
  SEAL_BYTES,
  type Sodium,
  STREAM_EXTRA_BYTES,
  STREAM_HEADER_BYTES,
  STREAM_STATE_BYTES,
  TAG_BYTES,
  TAG_FINAL,
  TAG_MESSAGE,
} from "../../src/crypto/sodium.ts";
import { hex, readRecorded, toHex } from "../pipe/vectors.ts";

const count = (size: number): Bytes => Uint8Array.from({ length: size }, (_, index) => index * 7 & 255);

const vectors = await readRecorded();

const KINDS = ["native", "wasm"] as const;
const loaded: Sodium[] = [];
for (const kind of KINDS) loaded.push(await loadSodium(kind));

describe("loadSodium", () => {
  it("prefers native code", async () => {
    assert.equal((await loadSodium()).name, "native");
  });
  it("gives the one that was asked for", () => {
    assert.deepEqual(loaded.map((sodium) => sodium.name), ["native", "wasm"]);
  });

  // `sodium-native` in a program that Bun compiled into one file is an object without functions.
  const broken: [string, () => Promise<Sodium>][] = [
    ["can't be loaded", () => Promise.reject(new Error("no such library"))],
    ["is empty", () => Promise.resolve(new NativeSodium({} as never))],
    ["gives a wrong key", () => {
      const wrong: Sodium = Object.create(loaded[0]!, { publicKey: { value: () => count(32) } });
      return Promise.resolve(wrong);
    }],
  ];
  for (const [what, native] of broken) {
    it(`loadSodium() falls back to WebAssembly with a message where native code ${what}`, async () => {
      const warnings: string[] = [];
      const warn = (message: string) => void warnings.push(message);
      const sodium = await loadSodium(undefined, { native, warn });
      assert.equal(sodium.name, "wasm");
      assert.equal(warnings.length, 1);
      assert.match(warnings[0]!, /^Using libsodium as WebAssembly, which is slower: sodium-native: /);
      await assert.rejects(loadSodium("native", { native, warn }), { code: "not_supported" });
      assert.equal((await loadSodium("wasm", { native, warn })).name, "wasm");
      assert.equal(warnings.length, 1, "who asks for WebAssembly needs no message");
    });
  }

  it("loadSodium() rejects with not_supported and both reasons where neither build works", async () => {
    const native = () => Promise.reject(new Error("no library"));
    const wasm = () => Promise.reject(new Error("no WebAssembly"));
    await assert.rejects(loadSodium(undefined, { native, wasm }), {
      code: "not_supported",
      message: "Cannot load libsodium: sodium-native: no library; libsodium-wrappers: no WebAssembly",
    });
  });
});

for (const sodium of loaded) {
  describe(`Sodium, ${sodium.name}`, () => {
    it("makes the keys that were recorded with the C programs", () => {
      const session = vectors.sessions[0]!;
      const server = { secretKey: hex(vectors.server_secret), publicKey: hex(vectors.server_public) };
      const client = { secretKey: hex(session.client_secret!), publicKey: hex(session.client_public) };
      assert.equal(toHex(sodium.publicKey(server.secretKey)), vectors.server_public);
      assert.equal(toHex(sodium.publicKey(client.secretKey)), session.client_public);
      const keys = sodium.clientKeys(client, server.publicKey)!;
      assert.equal(toHex(keys.rx), session.client_rx_key);
      assert.equal(toHex(keys.tx), session.client_tx_key);
    });

    it("hashes as another implementation does (the text abc, by hashlib.blake2b of Python)", () => {
      assert.equal(
        toHex(sodium.hash(64, hex("616263"))),
        "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1" +
          "7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923",
      );
      assert.notDeepEqual(sodium.hash(32, count(3), count(32)), sodium.hash(32, count(3)));
    });

    it("opens what it sealed, for that key alone, and nothing altered", () => {
      const keys = makeKeyPair(sodium);
      const sealed = sodium.sealBox(count(340), keys.publicKey);
      assert.equal(sealed.length, 340 + SEAL_BYTES);
      assert.deepEqual(sodium.openBox(sealed, keys), count(340));
      assert.equal(sodium.openBox(sealed, makeKeyPair(sodium)), undefined);
      assert.equal(sodium.openBox(sealed.subarray(1), keys), undefined);
      assert.equal(sodium.openBox(sealed.subarray(0, SEAL_BYTES - 1), keys), undefined);
      for (let at = 0; at < sealed.length; at += 13) {
        const altered = sealed.slice();
        altered[at]! ^= 0x10;
        assert.equal(sodium.openBox(altered, keys), undefined);
      }
    });

    it("agrees on crossed session keys", () => {
      const client = makeKeyPair(sodium);
      const server = makeKeyPair(sodium);
      const ours = sodium.clientKeys(client, server.publicKey)!;
      const theirs = sodium.serverKeys(server, client.publicKey)!;
      assert.deepEqual(ours.rx, theirs.tx);
      assert.deepEqual(ours.tx, theirs.rx);
      assert.notDeepEqual(ours.rx, ours.tx);
    });

    it("refuses a public key of low order", () => {
      const own = makeKeyPair(sodium);
      assert.equal(sodium.clientKeys(own, new Uint8Array(KEY_BYTES)), undefined);
      assert.equal(sodium.serverKeys(own, new Uint8Array(KEY_BYTES)), undefined);
    });

    it("compares", () => {
      assert.equal(sodium.equal(count(32), count(32)), true);
      assert.equal(sodium.equal(count(32), count(31)), false);
      assert.equal(sodium.equal(count(32), count(32).fill(1, 31)), false);
      assert.equal(sodium.equal(new Uint8Array(0), new Uint8Array(0)), true);
    });

    it("draws different random bytes, into a part of a buffer too", () => {
      const buffer = new Uint8Array(96);
      sodium.randomBytes(buffer.subarray(32, 64));
      assert.deepEqual(buffer.subarray(0, 32), new Uint8Array(32));
      assert.deepEqual(buffer.subarray(64), new Uint8Array(32));
      assert.notDeepEqual(buffer.subarray(32, 64), new Uint8Array(32));
      const other = new Uint8Array(32);
      sodium.randomBytes(other);
      assert.notDeepEqual(buffer.subarray(32, 64), other);
    });

    it("carries messages of any size in a stream, with their tags", () => {
      const push = sodium.streamState(count(32), count(STREAM_HEADER_BYTES));
      const pull = sodium.streamState(count(32), count(STREAM_HEADER_BYTES));
      assert.equal(push.length, STREAM_STATE_BYTES);
      const sizes = [0, 1, 12, 16, 131_070, 5, 300_000, 0];
      sizes.forEach((size, index) => {
        const tag = index === sizes.length - 1 ? TAG_FINAL : TAG_MESSAGE;
        const sealed = new Uint8Array(size + STREAM_EXTRA_BYTES);
        sodium.push(push, count(size), sealed, tag);
        const plain = new Uint8Array(size);
        assert.equal(sodium.pull(pull, sealed, plain), tag);
        assert.deepEqual(plain, count(size));
      });
      assert.deepEqual(push, pull);
    });

    it("refuses a message that was altered, repeated or left out, and goes on with the right one", () => {
      const push = sodium.streamState(count(32), count(STREAM_HEADER_BYTES));
      const pull = sodium.streamState(count(32), count(STREAM_HEADER_BYTES));
      const seal = (size: number) => {
        const sealed = new Uint8Array(size + STREAM_EXTRA_BYTES);
        sodium.push(push, count(size), sealed, TAG_MESSAGE);
        return sealed;
      };
      const [first, second] = [seal(20), seal(20)];
      const plain = new Uint8Array(20);
      for (let bit = 0; bit < first.length * 8; bit++) {
        const altered = first.slice();
        altered[bit >> 3]! ^= 1 << (bit & 7);
        assert.equal(sodium.pull(pull, altered, plain), -1);
      }
      assert.equal(sodium.pull(pull, second, plain), -1);
      assert.equal(sodium.pull(pull, first, plain), TAG_MESSAGE);
      assert.equal(sodium.pull(pull, first, plain), -1);
      assert.equal(sodium.pull(pull, second, plain), TAG_MESSAGE);
      assert.deepEqual(plain, count(20));
    });

    it("keeps streams apart and works on parts of buffers", () => {
      const states = [1, 2, 3].map((seed) =>
        sodium.streamState(count(32).fill(seed, 0, 4), count(STREAM_HEADER_BYTES))
      );
      const pulls = states.map((state) => state.slice());
      const buffer = new Uint8Array(200);
      for (let round = 0; round < 5; round++) {
        states.forEach((state, index) => {
          const sealed = buffer.subarray(10 + index, 10 + index + 40 + STREAM_EXTRA_BYTES);
          sodium.push(state, count(60).subarray(5, 45), sealed, TAG_MESSAGE);
          const plain = new Uint8Array(50);
          assert.equal(sodium.pull(pulls[index]!, sealed, plain.subarray(3, 43)), TAG_MESSAGE);
          assert.deepEqual(plain.subarray(3, 43), count(60).subarray(5, 45));
        });
      }
    });

    it("names wrong lengths by throwing, not by wrong bytes", () => {
      const state = sodium.streamState(count(32), count(STREAM_HEADER_BYTES));
      assert.throws(() => sodium.streamState(count(31), count(24)));
      assert.throws(() => sodium.streamState(count(32), count(23)));
      assert.throws(() => sodium.push(state, count(10), new Uint8Array(26), TAG_MESSAGE));
      assert.throws(() => sodium.clientKeys(makeKeyPair(sodium), count(31)), TypeError);
      assert.throws(() => sodium.serverKeys(makeKeyPair(sodium), count(33)), TypeError);
    });
  });
}

describe("Sodium, native and WASM", () => {
  it("give the same bytes", () => {
    const [one, two] = loaded as [Sodium, Sodium];
    const client = makeKeyPair(one, (into) => into.set(count(32)));
    const server = makeKeyPair(two, (into) => into.set(count(40).subarray(8)));
    assert.deepEqual(one.publicKey(client.secretKey), two.publicKey(client.secretKey));
    assert.deepEqual(one.clientKeys(client, server.publicKey), two.clientKeys(client, server.publicKey));
    assert.deepEqual(one.serverKeys(server, client.publicKey), two.serverKeys(server, client.publicKey));
    assert.deepEqual(one.hash(32, count(99), count(32)), two.hash(32, count(99), count(32)));
    assert.deepEqual(two.openBox(one.sealBox(count(99), server.publicKey), server), count(99));
    assert.deepEqual(one.openBox(two.sealBox(count(99), server.publicKey), server), count(99));
    const a = one.streamState(count(32), count(24));
    const b = two.streamState(count(32), count(24));
    assert.deepEqual(a, b);
    const [fromA, fromB] = [new Uint8Array(117), new Uint8Array(117)];
    one.push(a, count(100), fromA, TAG_MESSAGE);
    two.push(b, count(100), fromB, TAG_MESSAGE);
    assert.deepEqual(fromA, fromB);
    assert.deepEqual(a, b);
  });
});

describe("nodeHasX25519: X25519 of the runtime in place of WebAssembly's", () => {
  it("is there on both, and gives what libsodium gives, for every kind of key", async () => {
    assert.equal(nodeHasX25519(), true);
    const [own, wasm] = [await loadWasmSodium(true), await loadWasmSodium(false)];
    const random = (): Bytes => {
      const bytes = new Uint8Array(KEY_BYTES);
      wasm.randomBytes(bytes);
      return bytes;
    };
    // Any 32 bytes are a key of either kind: unclamped, with the top bit set, beyond the prime.
    const odd = [
      new Uint8Array(KEY_BYTES),
      Uint8Array.of(1, ...new Uint8Array(31)),
      new Uint8Array(KEY_BYTES).fill(255),
      hex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
      hex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
      hex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
      hex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    ];
    for (const publicKey of [...odd, ...Array.from({ length: 100 }, random)]) {
      const secretKey = random();
      assert.deepEqual(own.publicKey(secretKey), wasm.publicKey(secretKey));
      assert.deepEqual(own.sharedSecret(secretKey, publicKey), wasm.sharedSecret(secretKey, publicKey));
      assert.deepEqual(own.sharedSecret(publicKey, secretKey), wasm.sharedSecret(publicKey, secretKey));
    }
    for (const sodium of [own, wasm]) {
      assert.throws(() => sodium.publicKey(new Uint8Array(31)), TypeError);
      assert.throws(() => sodium.sharedSecret(new Uint8Array(33), random()), TypeError);
    }
  });
});

for (const sodium of loaded) {
  describe(`Sodium, ${sodium.name}: X25519 and ChaCha20-Poly1305`, () => {
    it("agrees on one secret, on RFC 7748's too (section 5.2), and refuses keys of low order", () => {
      const bob = makeKeyPair(sodium, (into) => into.set(count(32)));
      const other = makeKeyPair(sodium, (into) => into.set(count(32).reverse()));
      const one = sodium.sharedSecret(bob.secretKey, other.publicKey)!;
      assert.deepEqual(one, sodium.sharedSecret(other.secretKey, bob.publicKey));
      assert.equal(
        toHex(
          sodium.sharedSecret(
            hex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"),
            hex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"),
          )!,
        ),
        "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
      );
      assert.equal(sodium.sharedSecret(bob.secretKey, new Uint8Array(32)), undefined);
      assert.equal(sodium.sharedSecret(bob.secretKey, Uint8Array.of(1, ...new Uint8Array(31))), undefined);
    });

    it("seals as the other build and the runtimes do, and opens nothing altered", () => {
      const [key, nonce] = [count(32), count(12)];
      for (const size of [0, 1, 63, 64, 65, 1000, 70_000]) {
        const plain = count(size);
        const sealed = new Uint8Array(size + TAG_BYTES);
        sodium.seal(plain, sealed, nonce, key);
        for (const other of loaded) {
          const opened = new Uint8Array(size);
          assert.equal(other.open(sealed, opened, nonce, key), true);
          assert.deepEqual(opened, plain);
        }
        if (getCiphers().includes("chacha20-poly1305")) {
          const opened = new Uint8Array(size);
          assert.equal(new NodeAead("chacha20-poly1305").open(sealed, opened, nonce, key), true);
          assert.deepEqual(opened, plain);
        }
        for (const at of new Set([0, size >> 1, size, size + TAG_BYTES - 1])) {
          const altered = sealed.slice();
          altered[at]! ^= 0x10;
          assert.equal(sodium.open(altered, new Uint8Array(size), nonce, key), false);
        }
        assert.equal(sodium.open(sealed, new Uint8Array(size), count(12).fill(9), key), false);
      }
    });
  });
}

for (const sodium of loaded) {
  describe(`Sodium, ${sodium.name}: associated data`, () => {
    const [key, nonce] = [
      hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"),
      hex("070000004041424344454647"),
    ];

    it("seal() is RFC 8439's (section 2.8.2)", () => {
      const plain = new TextEncoder().encode(
        "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, " +
          "sunscreen would be it.",
      );
      const sealed = new Uint8Array(plain.length + TAG_BYTES);
      sodium.seal(plain, sealed, nonce, key, hex("50515253c0c1c2c3c4c5c6c7"));
      assert.equal(toHex(sealed.subarray(0, 16)), "d31a8d34648e60db7b86afbc53ef7ec2");
      assert.equal(toHex(sealed.subarray(-16)), "1ae10b594f09e26a7e902ecbd0600691");
    });

    it("open() says false where either was altered, for any sizes of both", () => {
      for (const size of [0, 1, 24, 1200, 70_000]) {
        for (const adSize of [1, 11, 57, 5000]) {
          const ad = count(adSize);
          const sealed = new Uint8Array(size + TAG_BYTES);
          sodium.seal(count(size), sealed, nonce, key, ad);
          const opened = new Uint8Array(size);
          for (const other of loaded) assert.equal(other.open(sealed, opened, nonce, key, ad), true);
          assert.deepEqual(opened, count(size));
          assert.equal(sodium.open(sealed, opened, nonce, key), false);
          assert.equal(sodium.open(sealed, opened, nonce, key, ad.slice(1)), false);
          ad[adSize >> 1]! ^= 1;
          assert.equal(sodium.open(sealed, opened, nonce, key, ad), false);
        }
      }
    });
  });
}

describe("NodeAead: AES-256-GCM of the runtime", () => {
  it("is NIST's (test case 14 of the GCM specification, and its tag)", () => {
    const aes = new NodeAead("aes-256-gcm");
    const sealed = new Uint8Array(32);
    aes.seal(new Uint8Array(16), sealed, new Uint8Array(12), new Uint8Array(32));
    assert.equal(toHex(sealed), "cea7403d4d606b6e074ec5d3baf39d18" + "d0d1c8a799996bf0265b98b5d48ab919");
  });

  it("opens what it sealed, in any size, and leaves nothing of what was altered", () => {
    const aes = new NodeAead("aes-256-gcm");
    for (const size of [1, 4096, 16_384, 16_385, 70_000]) {
      const sealed = new Uint8Array(size + TAG_BYTES);
      aes.seal(count(size), sealed, count(12), count(32));
      const opened = new Uint8Array(size);
      assert.equal(aes.open(sealed, opened, count(12), count(32)), true);
      assert.deepEqual(opened, count(size));
      sealed[size >> 1]! ^= 1;
      assert.equal(aes.open(sealed, opened, count(12), count(32)), false);
      assert.ok(opened.every((byte) => byte === 0));
    }
  });

  it("is asked for only where it is fast, and ChaCha20-Poly1305 is there always", () => {
    for (const sodium of loaded) {
      const { chacha, aes } = chooseAeads(sodium);
      assert.equal(chacha.name, "chacha20-poly1305");
      assert.ok(aes === undefined || aes.name === "aes-256-gcm");
    }
  });
});
