/** JWTs of an identity provider as credentials. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { it } from "node:test";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { claimsCredential, oidcCredentials } from "../../src/master/oidc.ts";
import { openToken } from "../../src/protocol/token/token.ts";
import { readAgentClaim } from "../../src/wire/token/agent_claim.ts";
import { createLogger } from "../../src/telemetry/log.ts";
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

it("claims that the operator names give scopes: by name, by path, as a text or one of several", () => {
  const scopes = (claims: Record<string, unknown>, claim: string, scope: "read" | "admin" = "admin") =>
    claimsCredential({ sub: "user-1", ...claims }, [{ scope, claim, value: "netops" }]).scopes;
  assert.deepEqual(scopes({ groups: ["staff", "netops"] }, "groups"), ["admin"]);
  assert.deepEqual(scopes({ groups: ["netops"] }, "groups", "read"), ["read"]);
  assert.deepEqual(scopes({ role: "netops" }, "role"), ["admin"]);
  assert.deepEqual(scopes({ realm_access: { roles: ["netops"] } }, "realm_access.roles"), ["admin"]);
  assert.deepEqual(scopes({ "https://example.org/groups": ["netops"] }, "https://example.org/groups"), [
    "admin",
  ]);
  assert.deepEqual(scopes({ groups: ["netops-readers", "NETOPS"], role: 7 }, "groups"), []);
  for (const claim of ["role", "realm_access.roles", "constructor.name", "groups.0.x"]) {
    assert.deepEqual(scopes({ groups: ["netops"], role: { netops: true } }, claim), [], claim);
  }
  assert.deepEqual(scopes({ sallyport_scopes: ["read"], groups: ["netops"] }, "groups"), ["read", "admin"]);
});

it("the provider's metadata names its keys; what can't be fetched is in the log and asked for again", async () => {
  const { publicKey, privateKey } = await generateKeyPair("ES256");
  const jwks = { keys: [{ ...await exportJWK(publicKey), alg: "ES256" }] };
  let broken = true;
  const server = createServer((request, response) => {
    if (broken) response.statusCode = 503;
    response.setHeader("content-type", "application/json");
    const isKeys = request.url === "/keys/of-our-own";
    response.end(JSON.stringify(isKeys ? jwks : { issuer, jwks_uri: `${issuer}/keys/of-our-own` }));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  try {
    const lines: string[] = [];
    const log = createLogger({ level: "info", format: "json", write: (line) => lines.push(line) });
    const { clock } = handClock();
    const credentials = oidcCredentials({ issuer, audience: "sallyport", clock, log });
    const jwt = await new SignJWT({}).setProtectedHeader({ alg: "ES256" }).setIssuer(issuer)
      .setAudience("sallyport").setSubject("user-1").setExpirationTime(WALL_MS / 1000 + 300).sign(privateKey);
    const use = { header: () => undefined } as never;
    assert.equal(await credentials.find(jwt, use), undefined);
    assert.match(lines.join(""), /Cannot find the keys of the identity provider/);
    broken = false;
    assert.equal((await credentials.find(jwt, use))?.id, "oidc:user-1");
    assert.equal(lines.length, 1);
  } finally {
    server.close();
    server.closeAllConnections?.();
  }
});
