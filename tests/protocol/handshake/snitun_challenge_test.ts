import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, it } from "node:test";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import {
  type CipherName,
  createOpener,
  createSealer,
  type Opener,
  type Sealer,
} from "../../../src/crypto/header_cipher.ts";
import { SallyportError } from "../../../src/errors.ts";
import { AgentChallenge, EdgeChallenge } from "../../../src/protocol/handshake/snitun_challenge.ts";
import { CASES, CIPHERS, concat, fromHex, listedRandom, toHex } from "../../crypto/vectors.ts";
import { seededBytes } from "../../support/seeded.ts";

const bytes = seededBytes(13);
const KEY = bytes(32);
const IV = bytes(16);

function pair(cipher: CipherName, key = KEY, agentKey = key) {
  return {
    edgeSealer: createSealer(cipher, key, IV, "edge"),
    edgeOpener: createOpener(cipher, key, IV, "agent"),
    agentSealer: createSealer(cipher, agentKey, IV, "agent"),
    agentOpener: createOpener(cipher, agentKey, IV, "edge"),
  };
}

function sha256(value: Bytes): Bytes {
  return new Uint8Array(createHash("sha256").update(value).digest());
}

/** Pushes `wire` in two pieces cut at `cut`; gives what the last one answered and checks that the first waited. */
function pushCut<T>(push: (chunk: Bytes) => T | undefined, wire: Bytes, unitBytes: number, cut: number): T {
  const early = push(wire.subarray(0, cut));
  if (cut >= unitBytes) return early!;
  assert.equal(early, undefined);
  return push(wire.subarray(cut))!;
}

function refused(run: () => unknown): void {
  assert.throws(run, (error) => {
    assert.ok(error instanceof SallyportError);
    assert.equal(error.code, "challenge_failed");
    assert.equal(error.side, "peer");
    return true;
  });
}

/** Both directions go on after the challenge, in step. */
function assertInStep(ends: ReturnType<typeof pair>): void {
  for (
    const [sealer, opener] of [[ends.edgeSealer, ends.agentOpener], [
      ends.agentSealer,
      ends.edgeOpener,
    ]] as const
  ) {
    for (let i = 0; i < 3; i++) {
      const header = bytes(32);
      assert.equal(toHex(opener.open(sealer.seal(header, 32))), toHex(header));
    }
  }
}

describe("EdgeChallenge and AgentChallenge", () => {
  for (const cipher of CIPHERS) {
    it(`${cipher}: succeeds in every cut, and leaves what follows alone`, () => {
      const unitBytes = cipher === "aes-cbc" ? 32 : 60;
      const more = bytes(5);
      for (let cut = 0; cut <= unitBytes; cut++) {
        const ends = pair(cipher);
        const edge = new EdgeChallenge(ends.edgeSealer, ends.edgeOpener);
        const agent = new AgentChallenge(ends.agentSealer, ends.agentOpener);
        assert.equal(edge.first.length, unitBytes);
        const challenged = pushCut((chunk) => agent.push(chunk), edge.first, unitBytes, cut);
        assert.equal(challenged.rest.length, 0);
        assert.equal(challenged.answer.length, unitBytes);
        const wire = concat(challenged.answer, more);
        const answered = pushCut((chunk) => edge.push(chunk), wire, unitBytes, cut);
        assert.equal(toHex(answered.rest), toHex(cut < unitBytes ? more : new Uint8Array(0)));
        assertInStep(ends);
      }
    });

    it(`${cipher}: succeeds one byte at a time`, () => {
      const ends = pair(cipher);
      const edge = new EdgeChallenge(ends.edgeSealer, ends.edgeOpener);
      const agent = new AgentChallenge(ends.agentSealer, ends.agentOpener);
      let answer: Bytes | undefined;
      for (let i = 0; i < edge.first.length; i++) {
        assert.equal(answer, undefined);
        answer = agent.push(edge.first.subarray(i, i + 1))?.answer;
      }
      let rest: Bytes | undefined;
      for (let i = 0; i < answer!.length; i++) {
        assert.equal(rest, undefined);
        assert.equal(edge.push(new Uint8Array(0)), undefined);
        rest = edge.push(answer!.subarray(i, i + 1))?.rest;
      }
      assert.equal(rest!.length, 0);
      assertInStep(ends);
    });

    it(`${cipher}: the agent gives back what lies after the challenge`, () => {
      const ends = pair(cipher);
      const edge = new EdgeChallenge(ends.edgeSealer, ends.edgeOpener);
      const challenged = new AgentChallenge(ends.agentSealer, ends.agentOpener).push(
        concat(edge.first, Uint8Array.of(1, 2, 3)),
      );
      assert.deepEqual([...challenged!.rest], [1, 2, 3]);
    });

    it(`${cipher}: the edge refuses an answer with any bit flipped`, () => {
      const unitBits = (cipher === "aes-cbc" ? 32 : 60) * 8;
      for (let bit = 0; bit < unitBits; bit++) {
        const ends = pair(cipher);
        const edge = new EdgeChallenge(ends.edgeSealer, ends.edgeOpener);
        const { answer } = new AgentChallenge(ends.agentSealer, ends.agentOpener).push(edge.first)!;
        answer[bit >> 3]! ^= 1 << (bit & 7);
        refused(() => edge.push(answer));
      }
    });

    it(`${cipher}: the edge refuses another key, noise, and its own challenge sent back`, () => {
      const other = bytes(32);
      const answers: ((first: Bytes, ends: ReturnType<typeof pair>) => Bytes)[] = [
        (first) => first,
        (first) => bytes(first.length),
        (first) => new Uint8Array(first.length),
        (first, ends) => {
          const sealed = ends.agentSealer.seal(ends.agentOpener.open(first), 32);
          return sealed;
        },
      ];
      for (const answer of answers) {
        const ends = pair(cipher);
        const edge = new EdgeChallenge(ends.edgeSealer, ends.edgeOpener);
        refused(() => edge.push(answer(edge.first, ends)));
      }
      const ends = pair(cipher, KEY, other);
      const edge = new EdgeChallenge(ends.edgeSealer, ends.edgeOpener);
      const agent = new AgentChallenge(ends.agentSealer, ends.agentOpener);
      // With aes-cbc the agent can't tell; the edge does.
      if (cipher === "aes-cbc") refused(() => edge.push(agent.push(edge.first)!.answer));
      else refused(() => agent.push(edge.first));
    });

    it(`${cipher}: takes nothing more when it is over`, () => {
      const ends = pair(cipher);
      const edge = new EdgeChallenge(ends.edgeSealer, ends.edgeOpener);
      const agent = new AgentChallenge(ends.agentSealer, ends.agentOpener);
      const { answer } = agent.push(edge.first)!;
      edge.push(answer);
      assert.throws(() => edge.push(answer), { code: "closed", side: "local" });
      assert.throws(() => agent.push(edge.first), { code: "closed", side: "local" });
    });
  }

  it("is the hash of 40 random bytes, answered with its hash", () => {
    const seed = bytes(40);
    const sealed: string[] = [];
    const plain: Sealer = { overheadBytes: 0, seal: (unit) => (sealed.push(toHex(unit)), unit), park() {} };
    const open: Opener = { overheadBytes: 0, open: (unit) => unit, park() {} };
    const edge = new EdgeChallenge(plain, open, listedRandom([toHex(seed)]));
    assert.equal(toHex(edge.first), toHex(sha256(seed)));
    const answer = new AgentChallenge(plain, open).push(edge.first)!.answer;
    assert.deepEqual(sealed, [toHex(sha256(seed)), toHex(sha256(sha256(seed)))]);
    assert.equal(edge.push(answer)!.rest.length, 0);
  });

  it("is another one each time", () => {
    const plain: Sealer = { overheadBytes: 0, seal: (unit) => unit, park() {} };
    const open: Opener = { overheadBytes: 0, open: (unit) => unit, park() {} };
    const firsts = Array.from({ length: 20 }, () => toHex(new EdgeChallenge(plain, open).first));
    assert.equal(new Set(firsts).size, 20);
  });

  it("holds no native context while it waits, nor after a failure", () => {
    const parked = { edge: 0, agent: 0 };
    const ends = pair("aes-cbc");
    const spy = <T extends Sealer | Opener>(cipher: T, end: "edge" | "agent"): T => {
      const park = cipher.park.bind(cipher);
      return Object.assign(cipher, { park: () => (parked[end]++, park()) });
    };
    const edge = new EdgeChallenge(spy(ends.edgeSealer, "edge"), spy(ends.edgeOpener, "edge"));
    assert.deepEqual(parked, { edge: 1, agent: 0 });
    new AgentChallenge(spy(ends.agentSealer, "agent"), spy(ends.agentOpener, "agent")).push(edge.first);
    assert.deepEqual(parked, { edge: 1, agent: 2 });
    refused(() => edge.push(new Uint8Array(32)));
    assert.deepEqual(parked, { edge: 2, agent: 2 });
  });

  for (const vector of CASES) {
    it(`recorded: the agent's answer, ${vector.cipher}, version ${vector.protocol_version}`, () => {
      const key = fromHex(vector.aes_key);
      const iv = fromHex(vector.aes_iv);
      const random = listedRandom((vector.nonces_in_order ?? []).slice(1));
      const agent = new AgentChallenge(
        createSealer(vector.cipher, key, iv, "agent", { random }),
        createOpener(vector.cipher, key, iv, "edge"),
      );
      const challenged = agent.push(fromHex(vector.challenge.wire))!;
      assert.equal(toHex(challenged.answer), vector.answer.wire);
    });
  }
});
