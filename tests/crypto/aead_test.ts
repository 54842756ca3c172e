import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, it } from "node:test";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { type Aead, type AeadName, chooseAeads, NodeAead, SodiumAead } from "../../src/crypto/aead.ts";
import { KEY_BYTES, loadSodium, NONCE_BYTES, TAG_BYTES } from "../../src/crypto/sodium.ts";
import { NO_SYSTEM_CIPHERS } from "../../src/crypto/system_ciphers.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";

const native = await loadSodium("native");
const runtime = await currentRuntime();

function random(size: number): Bytes {
  return new Uint8Array(randomBytes(size));
}

/** What must make the same bytes. */
function reference(name: AeadName): Aead {
  return name === "chacha20-poly1305" ? new SodiumAead(native) : new NodeAead(name);
}

/** Seals as another does, but opens anything. */
class Careless implements Aead {
  readonly name: AeadName;
  readonly #inner: Aead;
  used = 0;

  constructor(name: AeadName) {
    this.name = name;
    this.#inner = reference(name);
  }

  seal(plain: Bytes, into: Bytes, nonce: Bytes, key: Bytes): void {
    this.used++;
    this.#inner.seal(plain, into, nonce, key);
  }

  open(sealed: Bytes, into: Bytes, nonce: Bytes, key: Bytes): boolean {
    this.#inner.open(sealed, into, nonce, key);
    return true;
  }
}

describe("NodeAead", () => {
  const found = runtime.systemCiphers().aeads;

  it("are opened once, and on Deno alone", () => {
    assert.equal(runtime.systemCiphers(), runtime.systemCiphers());
    if (runtime.name !== "deno") assert.deepEqual(runtime.systemCiphers(), NO_SYSTEM_CIPHERS);
  });

  it("seal and open as libsodium and the runtime do, in any size", () => {
    for (const aead of found) {
      const other = reference(aead.name);
      for (const size of [0, 1, 6, 15, 16, 17, 63, 64, 65, 1000, 4096, 65_536, 131_072]) {
        const [plain, nonce, key] = [random(size), random(NONCE_BYTES), random(KEY_BYTES)];
        const [sealed, same] = [new Uint8Array(size + TAG_BYTES), new Uint8Array(size + TAG_BYTES)];
        aead.seal(plain, sealed, nonce, key);
        other.seal(plain, same, nonce, key);
        assert.deepEqual(sealed, same, `${aead.name}, ${size}`);
        const opened = new Uint8Array(size);
        assert.equal(aead.open(sealed, opened, nonce, key), true);
        assert.deepEqual(opened, plain);
        for (const at of new Set([0, size >> 1, size, size + TAG_BYTES - 1])) {
          sealed[at]! ^= 0x10;
          opened.fill(7);
          assert.equal(aead.open(sealed, opened, nonce, key), false);
          assert.ok(opened.every((byte) => byte === 0));
          sealed[at]! ^= 0x10;
        }
      }
    }
  });

  it("work on parts of buffers, also when the calls have been compiled", () => {
    for (const aead of found) {
      const [nonce, key] = [random(NONCE_BYTES), random(KEY_BYTES)];
      const memory = new Uint8Array(256);
      for (let i = 0; i < 50_000; i++) {
        const size = i % 40;
        const plain = new Uint8Array(size).fill(i);
        const sealed = memory.subarray(i % 64 + 1, i % 64 + 1 + size + TAG_BYTES);
        aead.seal(plain, sealed, nonce, key);
        const opened = new Uint8Array(size);
        if (!aead.open(sealed, opened, nonce, key) || opened.some((byte) => byte !== (i & 255))) {
          assert.fail(`${aead.name} at ${i}`);
        }
      }
    }
  });

  it("refuse sizes that don't fit, since nobody below would", () => {
    for (const aead of found) {
      const [nonce, key] = [random(NONCE_BYTES), random(KEY_BYTES)];
      const wrong: [Bytes, Bytes, Bytes, Bytes][] = [
        [random(10), random(25), nonce, key],
        [random(10), random(27), nonce, key],
        [random(10), random(26), random(11), key],
        [random(10), random(26), nonce, random(31)],
      ];
      for (const [plain, sealed, aNonce, aKey] of wrong) {
        assert.throws(() => aead.seal(plain, sealed, aNonce, aKey), TypeError);
        assert.throws(() => aead.open(sealed, plain, aNonce, aKey), TypeError);
      }
    }
  });
});

describe("chooseAeads", () => {
  it("leaves out what doesn't refuse altered boxes", () => {
    const names: AeadName[] = ["chacha20-poly1305", "aes-256-gcm"];
    const careless = names.map((name) => new Careless(name));
    const { small, chacha, aes } = chooseAeads(native, { systemCiphers: () => ({ aeads: careless }) });
    for (const aead of careless) {
      assert.ok(aead.used > 0, "it wasn't even tried");
      for (const chosen of [small, chacha, aes]) assert.notEqual(chosen, aead);
    }
  });

  it("asks for no native code where libsodium is WebAssembly", async () => {
    chooseAeads(await loadSodium("wasm"), { systemCiphers: () => assert.fail("asked") });
  });
});
