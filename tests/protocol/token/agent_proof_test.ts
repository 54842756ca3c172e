/** An agent's signed proof of a request. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  AGENT_PROOF_WINDOW_S,
  isAgentPublicKey,
  makeAgentKeys,
  proofAgent,
  type ProvenRequest,
  signAgentProof,
  verifyAgentProof,
} from "../../../src/protocol/token/agent_proof.ts";

const NOW_MS = 1_700_000_000_900;
const MADE_MS = 1_700_000_000_000;
const keys = makeAgentKeys();
const request: ProvenRequest = { method: "POST", path: "/v1/tokens" };
const proof = signAgentProof("agent_1", keys, request, NOW_MS);
const verdict = (more: Partial<ProvenRequest> = {}, nowMs = NOW_MS, key = keys.publicKey, text = proof) =>
  verifyAgentProof(text, key, { ...request, ...more }, nowMs);

describe("verifyAgentProof()", () => {
  it("gives the proof's number, and when it may be forgotten", async () => {
    const good = await verdict();
    assert.ok("nonce" in good);
    assert.match(good.nonce, /^[\w-]{22}$/);
    assert.equal(good.expiresAtMs, MADE_MS + (AGENT_PROOF_WINDOW_S + 1) * 1_000);
  });

  it("takes a proof for a minute from its whole second, and as long before", async () => {
    for (
      const [nowMs, good] of [[60_000, true], [60_001, false], [-60_000, true], [-60_001, false]] as const
    ) {
      assert.deepEqual("nonce" in await verdict({}, MADE_MS + nowMs), good, `${nowMs}`);
    }
    assert.deepEqual(await verdict({}, MADE_MS + 60_001), { fault: "time" });
  });

  it("refuses one for another request, of another key, or altered", async () => {
    assert.deepEqual(await verdict({ method: "GET" }), { fault: "request" });
    assert.deepEqual(await verdict({ path: "/v1/agents" }), { fault: "request" });
    assert.deepEqual(await verdict({}, NOW_MS, makeAgentKeys().publicKey), { fault: "signature" });
    const altered = proof.slice(0, -10) + (proof.at(-10) === "A" ? "B" : "A") + proof.slice(-9);
    assert.deepEqual(await verdict({}, NOW_MS, keys.publicKey, altered), { fault: "signature" });
  });
});

describe("proofAgent() and isAgentPublicKey()", () => {
  it("name the agent of a proof, and nobody of anything else", () => {
    assert.equal(proofAgent(proof), "agent_1");
    const [, claims, signature] = proof.split(".");
    const headed = (header: unknown) =>
      `${Buffer.from(JSON.stringify(header)).toString("base64url")}.${claims}.${signature}`;
    const good = { typ: "sallyport-agent+jwt", alg: "EdDSA", kid: "a" };
    assert.equal(proofAgent(headed(good)), "a");
    for (const wrong of [{ typ: "JWT" }, { alg: "HS256" }, { kid: 5 }]) {
      assert.equal(proofAgent(headed({ ...good, ...wrong })), undefined);
    }
    assert.equal(proofAgent("nonsense"), undefined);
  });

  it("know a key by its 43 characters", () => {
    assert.equal(isAgentPublicKey(keys.publicKey), true);
    for (const text of ["", keys.publicKey.slice(1), `${keys.publicKey}A`, "!".repeat(43)]) {
      assert.equal(isAgentPublicKey(text), false);
    }
  });
});
