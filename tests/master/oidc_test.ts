/** JWTs of an identity provider as credentials. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { oidcCredentials } from "../../src/master/oidc.ts";
import { openToken } from "../../src/protocol/token/token.ts";
import { readAgentClaim } from "../../src/wire/token/agent_claim.ts";
import { handClock, WALL_MS } from "./helpers.ts";
import { managedMaster } from "./managed.ts";

const ISSUER = "https://id.example.org";

it("a JWT's claims name hostnames, limits and scopes; others' JWTs are unknown", async () => {
  const { publicKey, privateKey } = await generateKeyPair("ES256");
  const stranger = await generateKeyPair("ES256");
  const jwks = { keys: [{ ...await exportJWK(publicKey), alg: "ES256" }] };
  const credentials = oidcCredentials({
    issuer: ISSUER,
    jwks,
    audience: "sallyport",
    clock: handClock().clock,
  });
  const master = await managedMaster({ credentials });
  const jwt = (
    claims: Record<string, unknown> = {},
    key = privateKey,
    issuer = ISSUER,
    audience = "sallyport",
  ) =>
    new SignJWT({
      sallyport_hostnames: ["*.customer.example.org"],
      sallyport_limits: { streams: 7 },
      sallyport_scopes: ["read"],
      sallyport_tenant: "customer",
      ...claims,
    }).setProtectedHeader({ alg: "ES256" }).setIssuer(issuer).setAudience(audience).setSubject("user-1")
      .setExpirationTime(WALL_MS / 1000 + 300).sign(key);
  const ask = async (hostname: string, token: Promise<string>) =>
    await master.call("POST", "/v1/tokens", { hostname }, { Authorization: `Bearer ${await token}` });
  try {
    const { status, body } = await ask("a.customer.example.org", jwt());
    assert.equal(status, 201);
    const { extra, valid } = openToken(master.ring, body.token, WALL_MS / 1000);
    assert.deepEqual(readAgentClaim(extra).limits, { streams: 7 });
    assert.ok(valid <= WALL_MS / 1000 + 300, "the token ends with the JWT");
    assert.equal((await ask("a.other.example.org", jwt())).status, 403);
    assert.equal((await ask("a.customer.example.org", jwt({}, stranger.privateKey))).status, 401);
    assert.equal(
      (await ask("a.customer.example.org", jwt({}, privateKey, "https://evil.example.org"))).status,
      401,
    );
    assert.equal((await ask("a.customer.example.org", jwt({}, privateKey, ISSUER, "other"))).status, 401);
    const headers = { Authorization: `Bearer ${await jwt()}` };
    await master.must(200, "GET", "/v1/agents", undefined, headers);
    await master.must(
      403,
      "POST",
      "/v1/agents",
      { name: "x", hostnames: ["x.customer.example.org"] },
      headers,
    );
  } finally {
    await master.close();
  }
});
