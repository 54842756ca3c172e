/** An edge's proof of itself, and the lines that its session master encrypts for it. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { FernetRing, generateFernetKey } from "../../../src/crypto/fernet.ts";
import {
  EDGE_PROOF_WINDOW_S,
  makeStreamKey,
  openEdgeProof,
  sealEdgeProof,
  StreamOpener,
  StreamSealer,
} from "../../../src/protocol/token/edge_proof.ts";
import { codeOf } from "../../support/code_of.ts";

const ring = new FernetRing([generateFernetKey()]);
const NOW_MS = 1_700_000_000_000;
const key = new Uint8Array(32).fill(5);
const request = { method: "GET", path: "/v1/edges/changes" };
const sealed = (edge: string, bytes: Uint8Array = key) =>
  sealEdgeProof(ring, { edge, key: bytes }, request, NOW_MS);
const opens = (proof: string, more: Partial<typeof request> = {}, nowMs = NOW_MS) =>
  openEdgeProof(ring, proof, { ...request, ...more }, nowMs);

describe("openEdgeProof()", () => {
  it("gives name and key of a proof that was made for the request", () => {
    assert.deepEqual(opens(sealed("edge-1.example:8443")), { edge: "edge-1.example:8443", key });
  });

  it("takes a proof within two minutes of its making, before and after", () => {
    assert.equal(EDGE_PROOF_WINDOW_S, 120);
    for (
      const [offMs, good] of [[120_000, true], [120_001, false], [-120_000, true], [-120_001, false]] as const
    ) {
      assert.equal(opens(sealed("e"), {}, NOW_MS + offMs) !== undefined, good, `${offMs}`);
    }
  });

  it("refuses one for another request, of another key, or with a name or key that is none", () => {
    assert.equal(opens(sealed("e"), { method: "POST" }), undefined);
    assert.equal(opens(sealed("e"), { path: "/v1/edges/reports" }), undefined);
    const foreign = sealEdgeProof(new FernetRing([generateFernetKey()]), { edge: "e", key }, request, NOW_MS);
    assert.equal(opens(foreign), undefined);
    assert.equal(opens("nonsense"), undefined);
    for (const edge of ["", "a b", "x".repeat(129)]) assert.equal(opens(sealed(edge)), undefined, edge);
    for (const size of [31, 33]) assert.equal(opens(sealed("e", new Uint8Array(size))), undefined);
    const other = ring.seal(new TextEncoder().encode("no JSON"), { nowMs: NOW_MS });
    assert.equal(opens(other), undefined);
  });
});

describe("StreamSealer and StreamOpener", () => {
  it("bind each line to its key and its place", () => {
    const stream = makeStreamKey();
    const sealer = new StreamSealer(stream);
    const lines = ["one", "", "drei ü"].map((line) => sealer.seal(line));
    const opener = new StreamOpener(stream);
    assert.deepEqual(lines.map((line) => opener.open(line)), ["one", "", "drei ü"]);
    const [first, second] = lines;
    assert.equal(codeOf(() => new StreamOpener(stream).open(second!)), "cipher_failed");
    assert.equal(codeOf(() => new StreamOpener(makeStreamKey()).open(first!)), "cipher_failed");
    const again = new StreamOpener(stream);
    again.open(first!);
    assert.equal(codeOf(() => again.open(first!)), "cipher_failed");
    // The same line sealed at two places isn't the same, and neither opens in the other's place.
    assert.equal(new StreamOpener(stream).open(new StreamSealer(stream).seal("x")), "x");
  });
});
