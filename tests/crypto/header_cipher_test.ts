import assert from "node:assert/strict";
import { createCipheriv } from "node:crypto";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { Bytes } from "../../src/bytes/bytes.ts";
import {
  type CipherName,
  createOpener,
  createSealer,
  type HeaderLibrary,
  headerLibrary,
  type Opener,
} from "../../src/crypto/header_cipher.ts";
import { SallyportError } from "../../src/errors.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { CASES, CIPHERS, concat, fromHex, listedRandom, toHex } from "./vectors.ts";
import { seededBytes, seedOf } from "../support/seeded.ts";

const AEADS: readonly CipherName[] = ["aes-gcm", "aes-gcm-siv"];
const bytes = seededBytes(7);
const KEY = bytes(32);
const IV = bytes(16);
const SYSTEM = (await currentRuntime()).systemCiphers();
const LIBRARIES: Readonly<Record<string, HeaderLibrary | undefined>> = {
  "node:crypto": undefined,
  ...SYSTEM.cbc === undefined ? {} : { "the system's library": headerLibrary(SYSTEM) },
};

function refused(run: () => unknown, side = "peer"): void {
  assert.throws(run, (error) => {
    assert.ok(error instanceof SallyportError);
    assert.equal(error.code, "cipher_failed");
    assert.equal(error.side, side);
    return true;
  });
}

/** `count` sealed units from the edge, and what was in them. */
function sealSome(cipher: CipherName, count: number): { plain: Bytes[]; wire: Bytes[] } {
  const sealer = createSealer(cipher, KEY, IV, "edge");
  const plain = Array.from({ length: count }, () => bytes(32));
  return { plain, wire: plain.map((unit) => sealer.seal(unit, 32).slice()) };
}

// On Deno with OpenSSL there are two implementations; both have to pass.
for (const [by, library] of Object.entries(LIBRARIES)) {
  describe(`createSealer and createOpener: recorded sessions of the reference, by ${by}`, () => {
    for (const vector of CASES) {
      it(`${vector.cipher}, version ${vector.protocol_version}`, () => {
        const key = fromHex(vector.aes_key);
        const iv = fromHex(vector.aes_iv);
        const random = listedRandom(vector.nonces_in_order ?? []);
        const ends = {
          server: {
            sealer: createSealer(vector.cipher, key, iv, "edge", { random, library }),
            opener: createOpener(vector.cipher, key, iv, "agent", library),
          },
          client: {
            sealer: createSealer(vector.cipher, key, iv, "agent", { random, library }),
            opener: createOpener(vector.cipher, key, iv, "edge", library),
          },
        };
        const carry = (sender: string, units: readonly Bytes[], tail: Bytes, wireHex: string) => {
          const from = sender === "server" ? ends.server : ends.client;
          const to = sender === "server" ? ends.client : ends.server;
          const wire = concat(...units.map((unit) => from.sealer.seal(unit, unit.length).slice()), tail);
          assert.equal(toHex(wire), wireHex);
          let at = 0;
          for (const unit of units) {
            const sealed = wire.subarray(at, at += unit.length + to.opener.overheadBytes);
            assert.equal(toHex(to.opener.open(sealed)), toHex(unit));
          }
        };
        carry("server", [fromHex(vector.challenge.plain)], new Uint8Array(), vector.challenge.wire);
        carry("client", [fromHex(vector.answer.plain)], new Uint8Array(), vector.answer.wire);
        for (const frame of vector.frames) {
          const sealsPayload = frame.flow === "NEW" && vector.protocol_version >= 2;
          const data = fromHex(frame.data);
          const units = sealsPayload ? [fromHex(frame.header), data] : [fromHex(frame.header)];
          carry(frame.sender, units, sealsPayload ? new Uint8Array() : data, frame.wire);
        }
        assert.equal(random.left, 0, "every recorded nonce was used");
      });
    }
  });

  describe(`createSealer and createOpener: every cipher, by ${by}`, () => {
    for (const cipher of CIPHERS) {
      it(`${cipher}: units sealed together are those sealed one by one`, () => {
        fc.assert(
          fc.property(
            fc.array(fc.tuple(fc.integer({ min: 1, max: 9 }), fc.constantFrom(16, 32), fc.boolean()), {
              minLength: 1,
              maxLength: 8,
            }),
            (batches) => {
              const together = createSealer(cipher, KEY, IV, "edge", {
                random: { fill: (nonce) => nonce.fill(5) },
              });
              const single = createSealer(cipher, KEY, IV, "edge", {
                random: { fill: (nonce) => nonce.fill(5) },
              });
              const opener = createOpener(cipher, KEY, IV, "edge", library);
              for (const [count, unitBytes, park] of batches) {
                const plain = bytes(count * unitBytes);
                const wire = together.seal(plain, unitBytes).slice();
                if (park) single.park();
                const parts = Array.from(
                  { length: count },
                  (_, n) => single.seal(plain.slice(n * unitBytes, (n + 1) * unitBytes), unitBytes).slice(),
                );
                assert.equal(toHex(wire), toHex(concat(...parts)));
                if (park) opener.park();
                for (const [n, part] of parts.entries()) {
                  const opened = opener.open(part);
                  assert.equal(toHex(opened), toHex(plain.slice(n * unitBytes, (n + 1) * unitBytes)));
                }
              }
            },
          ),
          { seed: seedOf(11), numRuns: 40 },
        );
      });

      it(`${cipher}: key, IV, plain text and wire bytes are left as they were`, () => {
        const key = KEY.slice();
        const iv = IV.slice();
        const sealer = createSealer(cipher, key, iv, "edge", { library });
        const opener = createOpener(cipher, key, iv, "edge", library);
        key.fill(0);
        iv.fill(0);
        for (let i = 0; i < 3; i++) {
          const plain = bytes(64);
          const before = toHex(plain);
          const wire = sealer.seal(plain, 64).slice();
          const sealed = toHex(wire);
          assert.equal(toHex(opener.open(wire)), before);
          assert.equal(toHex(plain), before);
          assert.equal(toHex(wire), sealed);
        }
        // The copies were made before the caller's were wiped: another pair with the same key understands them.
        const again = createSealer(cipher, KEY, IV, "edge", { library }).seal(bytes(32), 32);
        createOpener(cipher, KEY, IV, "edge", library).open(again);
      });

      it(`${cipher}: lengths that can't be are refused`, () => {
        const sealer = createSealer(cipher, KEY, IV, "edge", { library });
        const opener = createOpener(cipher, KEY, IV, "edge", library);
        refused(() => sealer.seal(bytes(0), 32), "local");
        refused(() => sealer.seal(bytes(33), 32), "local");
        refused(() => sealer.seal(bytes(32), 0), "local");
        refused(() => opener.open(bytes(0)));
        refused(() => opener.open(bytes(opener.overheadBytes)));
        refused(() => createSealer(cipher, bytes(31), IV, "edge", { library }), "local");
        refused(() => createSealer(cipher, bytes(16), IV, "edge"), "local");
        refused(() => createOpener(cipher, KEY, bytes(12), "edge"), "local");
        // What was refused left no trace in the state.
        const plain = bytes(32);
        assert.equal(toHex(opener.open(sealer.seal(plain, 32))), toHex(plain));
      });
    }
  });

  describe(`createSealer and createOpener: aes-cbc, by ${by}`, () => {
    it("is one chain of AES-256-CBC, wherever it is cut", () => {
      const plain = bytes(16 * 24);
      const reference = createCipheriv("aes-256-cbc", KEY, IV);
      reference.setAutoPadding(false);
      const expected = toHex(new Uint8Array(reference.update(plain)));
      for (let cut = 16; cut < plain.length; cut += 16) {
        const sealer = createSealer("aes-cbc", KEY, IV, "agent", { library });
        const first = sealer.seal(plain.subarray(0, cut), cut).slice();
        sealer.park();
        assert.equal(toHex(concat(first, sealer.seal(plain.subarray(cut), 16))), expected);
        const opener = createOpener("aes-cbc", KEY, IV, "agent", library);
        const wire = fromHex(expected);
        const head = opener.open(wire.subarray(0, cut)).slice();
        opener.park();
        assert.equal(toHex(concat(head, opener.open(wire.subarray(cut)))), toHex(plain));
      }
    });

    it("takes whole blocks alone", () => {
      const opener = createOpener("aes-cbc", KEY, IV, "agent", library);
      for (let length = 1; length < 48; length++) {
        if (length % 16 !== 0) refused(() => opener.open(bytes(length)));
      }
      refused(() => createSealer("aes-cbc", KEY, IV, "edge", { library }).seal(bytes(40), 20), "local");
    });

    it("keeps the result of a call when the next comes", () => {
      const sealer = createSealer("aes-cbc", KEY, IV, "edge", { library });
      const opener = createOpener("aes-cbc", KEY, IV, "edge", library);
      const first = bytes(32);
      const second = bytes(32);
      assert.equal(toHex(opener.open(sealer.seal(first, 32))), toHex(first));
      assert.equal(toHex(opener.open(sealer.seal(second, 32))), toHex(second));
    });
  });
}

describe("headerLibrary", () => {
  it("go on with any chain where it ended", () => {
    for (const library of Object.values(LIBRARIES)) {
      const chains = [1, 2, 3].map((n) => {
        const [key, iv] = [new Uint8Array(32).fill(n), bytes(16)];
        return {
          one: createSealer("aes-cbc", key, iv, "edge", { library }),
          other: createSealer("aes-cbc", key, iv, "edge"),
          opener: createOpener("aes-cbc", key, iv, "edge", library),
        };
      });
      fc.assert(
        fc.property(fc.array(fc.tuple(fc.nat(2), fc.integer({ min: 1, max: 20 }), fc.boolean())), (steps) => {
          for (const [n, blocks, park] of steps) {
            const { one, other, opener } = chains[n]!;
            const plain = bytes(16 * blocks);
            const wire = one.seal(plain, 16).slice();
            assert.equal(toHex(wire), toHex(other.seal(plain, 16)));
            assert.equal(toHex(opener.open(wire)), toHex(plain));
            if (park) { for (const part of [one, other, opener]) part.park(); }
          }
        }),
        { seed: seedOf(13), numRuns: 30 },
      );
      for (const { one, other, opener } of chains) for (const part of [one, other, opener]) part.park();
    }
  });

  it("aren't used if their results differ", () => {
    const broken = () => assert.fail("broken");
    const gcm = { name: "aes-256-gcm", seal: broken, open: broken } as const;
    // One forgets its chain, so that only the first blocks are right.
    const forgetful = () => ({
      update: (blocks: Bytes) => createCipheriv("aes-256-cbc", KEY, IV).setAutoPadding(false).update(blocks),
      final() {},
    });
    for (const chain of [forgetful, broken]) {
      const cbc = { encryption: chain, decryption: chain };
      assert.deepEqual(headerLibrary({ aeads: [gcm], cbc }), { cbc: undefined, gcm: undefined });
    }
  });
});

describe("createOpener: AEAD ciphers", () => {
  for (const cipher of AEADS) {
    it(`${cipher}: refuses a unit with any bit flipped, then takes the true one`, () => {
      const { plain, wire } = sealSome(cipher, 1);
      const opener = createOpener(cipher, KEY, IV, "edge");
      const unit = wire[0]!;
      for (let bit = 0; bit < unit.length * 8; bit++) {
        const changed = unit.slice();
        changed[bit >> 3]! ^= 1 << (bit & 7);
        refused(() => opener.open(changed));
      }
      assert.equal(toHex(opener.open(unit)), toHex(plain[0]!));
    });

    it(`${cipher}: refuses a unit cut or lengthened at any byte`, () => {
      const unit = sealSome(cipher, 1).wire[0]!;
      const opener = createOpener(cipher, KEY, IV, "edge");
      for (let length = 0; length < unit.length; length++) {
        refused(() => opener.open(unit.subarray(0, length)));
      }
      refused(() => opener.open(concat(unit, new Uint8Array(1))));
    });

    it(`${cipher}: refuses another key`, () => {
      const unit = sealSome(cipher, 1).wire[0]!;
      const other = KEY.slice();
      other[31]! ^= 1;
      refused(() => createOpener(cipher, other, IV, "edge").open(unit));
    });
  }

  it("aes-gcm-siv: draws a fresh nonce for each unit", () => {
    const sealer = createSealer("aes-gcm-siv", KEY, IV, "edge");
    const seen = new Set<string>();
    for (let i = 0; i < 4; i++) {
      const wire = sealer.seal(new Uint8Array(32 * 20), 32);
      for (let at = 0; at < wire.length; at += 60) seen.add(toHex(wire.slice(at, at + 12)));
      sealer.park();
    }
    assert.equal(seen.size, 80);
  });
});

describe("createSealer: nonces of aes-gcm", () => {
  const nonceOf = (unit: Bytes) => toHex(unit.subarray(0, 12));
  const opened = (opener: Opener, unit: Bytes) => toHex(opener.open(unit));

  it("count from 0 after the direction", () => {
    assert.deepEqual(sealSome("aes-gcm", 3).wire.map(nonceOf), [
      "000000010000000000000000",
      "000000010000000000000001",
      "000000010000000000000002",
    ]);
    const agent = createSealer("aes-gcm", KEY, IV, "agent");
    assert.equal(nonceOf(agent.seal(bytes(32), 32)), "000000000000000000000000");
    for (let i = 1; i < 256; i++) agent.seal(bytes(16), 16);
    assert.equal(nonceOf(agent.seal(bytes(32), 32)), "000000000000000000000100");
  });

  it("a replayed unit is refused", () => {
    const { plain, wire } = sealSome("aes-gcm", 2);
    const opener = createOpener("aes-gcm", KEY, IV, "edge");
    assert.equal(opened(opener, wire[0]!), toHex(plain[0]!));
    refused(() => opener.open(wire[0]!));
    assert.equal(opened(opener, wire[1]!), toHex(plain[1]!));
    refused(() => opener.open(wire[0]!));
    refused(() => opener.open(wire[1]!));
  });

  it("a unit left out or reordered is refused", () => {
    const { plain, wire } = sealSome("aes-gcm", 3);
    const opener = createOpener("aes-gcm", KEY, IV, "edge");
    refused(() => opener.open(wire[1]!));
    refused(() => opener.open(wire[2]!));
    assert.equal(opened(opener, wire[0]!), toHex(plain[0]!));
    refused(() => opener.open(wire[2]!));
  });

  it("a reflected unit is refused", () => {
    const edge = createSealer("aes-gcm", KEY, IV, "edge");
    const edgeOpener = createOpener("aes-gcm", KEY, IV, "agent");
    const agentOpener = createOpener("aes-gcm", KEY, IV, "edge");
    const unit = edge.seal(bytes(32), 32).slice();
    refused(() => edgeOpener.open(unit));
    agentOpener.open(unit);
  });
});
