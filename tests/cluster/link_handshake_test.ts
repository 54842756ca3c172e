import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { describe, it } from "node:test";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { LINK_VERSION, type LinkAgreement, LinkHandshake } from "../../src/cluster/link_handshake.ts";

const A = "00112233445566778899aabbccddeeff";
const B = "ffeeddccbbaa99887766554433221100";
const SECRET = new Uint8Array(32).fill(7);

function pair(secretOfB: Bytes = SECRET): { dialer: LinkHandshake; acceptor: LinkHandshake } {
  return {
    dialer: new LinkHandshake("dialer", A, SECRET),
    acceptor: new LinkHandshake("acceptor", B, secretOfB),
  };
}

/** Pushes a message in pieces of `size`; what came out of it. */
function push(to: LinkHandshake, message: Bytes, size: number): { send?: Bytes; agreement?: LinkAgreement } {
  let all: { send?: Bytes; agreement?: LinkAgreement } = {};
  for (let at = 0; at < message.length; at += size) {
    all = { ...all, ...to.push(message.subarray(at, at + size)) };
  }
  return all;
}

describe("LinkHandshake", () => {
  for (const size of [1, 7, 1_000]) {
    it(`agrees on version and names the peer, in pieces of ${size} bytes`, () => {
      const { dialer, acceptor } = pair();
      const toDialer = push(acceptor, dialer.hello, size).send!;
      const toAcceptor = push(dialer, acceptor.hello, size).send!;
      const behind = new Uint8Array([...toDialer, 1, 2, 3]);
      const atDialer = dialer.push(behind).agreement!;
      const atAcceptor = push(acceptor, toAcceptor, size).agreement!;
      assert.deepEqual({ ...atDialer, rest: [...atDialer.rest] }, {
        version: LINK_VERSION,
        peer: B,
        rest: [1, 2, 3],
      });
      assert.deepEqual({ ...atAcceptor, rest: [...atAcceptor.rest] }, {
        version: LINK_VERSION,
        peer: A,
        rest: [],
      });
    });
  }

  it("refuses a node with another secret", () => {
    const { dialer, acceptor } = pair(new Uint8Array(32).fill(8));
    acceptor.push(dialer.hello);
    const proof = dialer.push(acceptor.hello).send!;
    assert.throws(() => acceptor.push(proof), { code: "challenge_failed" });
  });

  it("refuses its own proof sent back", () => {
    const { dialer } = pair();
    const proof = dialer.push(dialer.hello).send!;
    assert.throws(() => dialer.push(proof), { code: "challenge_failed" });
  });

  it("refuses a hello with any byte of the magic changed, and a version below the oldest", () => {
    for (
      const [index, code] of [[0, "unknown_protocol"], [3, "unknown_protocol"], [4, "not_supported"]] as const
    ) {
      const { dialer, acceptor } = pair();
      const hello = dialer.hello.slice();
      hello[index] = 0;
      assert.throws(() => acceptor.push(hello), { code });
    }
  });

  it("speaks its own version with a newer node", () => {
    const { dialer, acceptor } = pair();
    const hello = acceptor.hello.slice();
    hello[4] = LINK_VERSION + 5;
    // The newer node's proof covers what it sent.
    const newer = new LinkHandshake("acceptor", B, SECRET);
    newer.hello.set(hello);
    const proof = newer.push(dialer.hello).send!;
    dialer.push(hello);
    assert.equal(dialer.push(proof).agreement?.version, LINK_VERSION);
  });

  for (const channel of [new Uint8Array(0), new Uint8Array(32).fill(5)]) {
    const how = channel.length === 0 ? "a unix socket" : "a sealed connection";
    it(`still speaks with a node of version 1, as that version wrote its bytes, on ${how}`, () => {
      // The first release's own words, frozen here: a change that older nodes do not understand fails this.
      const older = Buffer.from(
        "53504c4b01ffeeddccbbaa998877665544332211000001020304050607" +
          "08090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "hex",
      );
      const ours = new LinkHandshake("dialer", A, SECRET, channel);
      assert.equal(Buffer.from(ours.hello.subarray(0, 21)).toString("hex"), `53504c4b${"01"}${A}`);
      assert.equal(ours.hello.length, 53);
      const proofOf = (end: string, own: Uint8Array, other: Uint8Array) =>
        createHmac("sha256", SECRET).update(`sallyport link ${end}`).update(own).update(other).update(channel)
          .digest();
      const { send } = ours.push(new Uint8Array(older));
      assert.deepEqual(Buffer.from(send!), proofOf("dialer", ours.hello, older));
      const { agreement } = ours.push(new Uint8Array(proofOf("acceptor", older, ours.hello)));
      assert.deepEqual([agreement?.version, agreement?.peer], [1, B]);
    });
  }
});
