import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import { loadSodium, makeKeyPair } from "../../../src/crypto/sodium.ts";
import { SealedAgentHandshake } from "../../../src/protocol/handshake/sealed_agent.ts";
import { concat } from "../../support/tunnel.ts";
import { assertLooksRandom, flipped, knownRandom, NOW_S, TestEdgeSide } from "../../support/sealed.ts";
import { SEALED_CLOCK_SKEW_S } from "../../../src/protocol/handshake/sealed_edge.ts";
import { codeOf } from "../../support/code_of.ts";

const sodium = await loadSodium("native");
const SALT = 32;
const HEAD = 32 + 32 + 15 + 16;

for (const kind of ["native", "wasm"] as const) {
  describe(`SealedAgentHandshake and SealedEdgeHandshake, libsodium ${kind}`, () => {
    it("gives both ends the same two keys, and fresh ones each time", async () => {
      const edge = new TestEdgeSide(await loadSodium(kind));
      const seen = new Set<string>();
      for (let i = 0; i < 5; i++) {
        const { agent, edge: other } = edge.connect();
        assert.deepEqual(agent, other);
        seen.add(String(agent.agent)).add(String(agent.edge));
      }
      assert.equal(seen.size, 10);
    });
  });
}

describe("SealedAgentHandshake and SealedEdgeHandshake", () => {
  it("works one byte at a time, and leaves what follows the answer", () => {
    const edge = new TestEdgeSide(sodium);
    const agent = edge.dial();
    const accepting = edge.accept();
    let answered: ReturnType<typeof accepting.push>;
    agent.first.forEach((_, at) => {
      assert.equal(answered, undefined, "not before the last byte");
      answered = accepting.push(agent.first.slice(at, at + 1));
    });
    const wire = concat(answered!.answer, new Uint8Array([1, 2, 3]));
    let opened: ReturnType<typeof agent.push>;
    let at = 0;
    while (opened === undefined) opened = agent.push(wire.slice(at, ++at));
    assert.equal(at, answered!.answer.length);
    assert.deepEqual(opened.keys, answered!.keys);

    const second = edge.dial();
    const whole = edge.accept().push(second.first)!;
    assert.deepEqual([...second.push(concat(whole.answer, new Uint8Array([1, 2, 3])))!.rest], [1, 2, 3]);
  });

  it("has no constant in 1,000 first flights and answers, and looks random by every test", () => {
    const edge = new TestEdgeSide(sodium);
    const flights: Bytes[] = [];
    const answers: Bytes[] = [];
    for (let i = 0; i < 1000; i++) {
      const agent = edge.dial();
      flights.push(agent.first);
      answers.push(edge.accept().push(agent.first)!.answer);
    }
    // The first byte keeps clear of four values, by which an edge's port knows others; the rest is free.
    for (const first of flights) assert.ok(![0x16, 0x67, 0x50, 0x0d].includes(first[0]!));
    assertLooksRandom(flights.map((flight) => flight.slice(1, HEAD + 16)));
    assertLooksRandom(answers.map((answer) => answer.slice(0, 32 + 51 + 16)));
    assertLooksRandom(flights.filter((flight) => flight.length >= 600).map((flight) => flight.slice(1, 600)));
    for (const messages of [flights, answers]) {
      const lengths = new Set(messages.map((message) => message.length));
      // 1,000 draws from 1,024 lengths leave 639 different ones on average.
      assert.ok(lengths.size > 560, `${lengths.size} lengths`);
    }
  });

  it("never answers an altered first flight: one bit at every place", () => {
    const edge = new TestEdgeSide(sodium);
    const agent = edge.dial();
    for (let at = 0; at < agent.first.length; at++) {
      const accepting = edge.accept();
      let answered;
      const code = codeOf(() => answered = accepting.push(flipped(agent.first, at, at % 8)));
      assert.match(code, at < HEAD ? /^(none|unknown_protocol)$/ : /^(none|challenge_failed)$/, `byte ${at}`);
      // A public key's highest bit means nothing to X25519, but goes into the keys all the same.
      assert.equal(answered, undefined, `byte ${at}`);
    }
    assert.ok(edge.accept().push(agent.first), "the flight itself is as good as ever");
  });

  it("takes no altered answer: one bit at every place", () => {
    const edge = new TestEdgeSide(sodium);
    // The same agent and the same edge again for every place.
    const agent = () => edge.dial(knownRandom("agent"));
    const { answer } = edge.accept(knownRandom("edge")).push(agent().first)!;
    for (let at = 0; at < answer.length; at++) {
      assert.throws(
        () => agent().push(flipped(answer, at, at % 8)),
        { code: "challenge_failed" },
        `byte ${at}`,
      );
    }
    assert.ok(agent().push(answer));
    assert.throws(() => edge.dial().push(answer), { code: "challenge_failed" }, "another session's answer");
  });

  it("answers no agent that has another key, and accepts no edge that has another key", () => {
    const edge = new TestEdgeSide(sodium);
    const other = makeKeyPair(sodium);
    const wrong = new SealedAgentHandshake({ sodium, edgePublicKey: other.publicKey, unixSeconds: NOW_S });
    assert.throws(() => edge.accept().push(wrong.first), { code: "unknown_protocol" });
    // The public key isn't enough to answer: no agent opens the answer of an edge without the secret key.
    const agent = edge.dial();
    assert.throws(() => agent.push(new Uint8Array(2000).fill(7)), { code: "challenge_failed" });
    for (const key of [new Uint8Array(32), new Uint8Array(31), new Uint8Array([1, ...new Uint8Array(31)])]) {
      assert.throws(
        () => new SealedAgentHandshake({ sodium, edgePublicKey: key, unixSeconds: NOW_S }),
        { code: "config_invalid" },
      );
    }
  });

  it("answers a first flight once", () => {
    const edge = new TestEdgeSide(sodium);
    const agent = edge.dial();
    assert.ok(edge.accept().push(agent.first));
    assert.throws(() => edge.accept().push(agent.first), /it was seen before/);
    edge.nowS += SEALED_CLOCK_SKEW_S - 1;
    assert.throws(() => edge.accept().push(agent.first), /it was seen before/);
    edge.nowS += 2;
    assert.throws(() => edge.accept().push(agent.first), /the agent's clock is 3601 s behind/);
  });

  it("seals two answers to one flight under two keys, should an edge have forgotten the first", () => {
    const first = new TestEdgeSide(sodium).dial().first;
    const answers = [1, 2].map((salt) => {
      let drawn = 0;
      // All that is drawn is the same, but the salt.
      const random = { fill: (target: Bytes) => void target.fill(drawn++ === 0 ? salt : 9) };
      return new TestEdgeSide(sodium).accept(random).push(first)!.answer;
    });
    const [one, two] = answers.map((answer) => answer.slice(32, 64)) as [Bytes, Bytes];
    assert.ok(one.filter((byte, i) => byte === two[i]).length < 16);
  });

  it("remembers what came early for as long as it is in time", () => {
    const edge = new TestEdgeSide(sodium);
    const agent = edge.dial();
    edge.nowS = NOW_S - SEALED_CLOCK_SKEW_S;
    assert.ok(edge.accept().push(agent.first));
    for (let hour = 0; hour < 2; hour++) {
      edge.nowS += SEALED_CLOCK_SKEW_S;
      assert.throws(() => edge.accept().push(agent.first), /it was seen before/);
      const another = new SealedAgentHandshake({
        sodium,
        edgePublicKey: edge.keys.publicKey,
        unixSeconds: edge.nowS,
      });
      assert.ok(edge.accept().push(another.first));
    }
  });

  it("takes nothing after the first flight before its answer", () => {
    const edge = new TestEdgeSide(sodium);
    const agent = edge.dial();
    assert.throws(() => edge.accept().push(concat(agent.first, new Uint8Array(1))), {
      code: "challenge_failed",
    });
  });

  it("draws another salt where its first byte would be taken for another protocol", () => {
    const edge = new TestEdgeSide(sodium);
    const firsts = [0x16, 0x67, 0x50, 0x0d, 0x42];
    const agent = edge.dial({ fill: (into) => void into.fill(into.length === SALT ? firsts.shift()! : 5) });
    // The secret key has the same length as the salt, and is drawn after it.
    assert.equal(agent.first[0], 0x42);
  });
});
