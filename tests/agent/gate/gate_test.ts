/** Who gets through to a service: by a password, and by signing in at a provider that this test plays. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import { after, before, describe, it } from "node:test";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { MemoryCertificateStore } from "../../../src/agent/acme/certificate_store.ts";
import { basicAuth, GATE_FAILURES_PER_MINUTE_MAX } from "../../../src/agent/gate/basic_auth.ts";
import { MasterClock } from "../../../src/agent/late_clock.ts";
import { OIDC_CALLBACK_PATH, OIDC_LOGOUT_PATH, oidcGate } from "../../../src/agent/gate/oidc.ts";
import { hashPassword, isPassword, parsePasswordHash } from "../../../src/agent/gate/password_hash.ts";
import type { OidcSettings } from "../../../src/agent/services/service.ts";
import { currentRuntime } from "../../../src/runtime/mod.ts";
import { silentLogger } from "../../../src/telemetry/log.ts";
import type { Field } from "../../../src/wire/http1/fields.ts";
import { ask, behind } from "../../support/exchange.ts";
import { portOf } from "../../support/plain_peer.ts";

const timeout = 30_000;
const { clock } = await currentRuntime();
const basic = (user: string, password: string): Field => [
  "authorization",
  `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`,
];

describe("hashPassword and isPassword", () => {
  it("are made, read and compared; a known one is computed alike", { timeout }, async () => {
    const text = await hashPassword("sécret");
    assert.match(text, /^\$scrypt\$ln=15,r=8,p=1\$/);
    assert.equal(await isPassword("sécret", parsePasswordHash(text)), true);
    assert.equal(await isPassword("secret", parsePasswordHash(text)), false);
    // RFC 7914 §12, the third vector.
    const salt = Buffer.from("SodiumChloride").toString("base64").replace(/=+$/, "");
    const hash = "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2" +
      "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887";
    const known = `$scrypt$ln=14,r=8,p=1$${salt}$${
      Buffer.from(hash, "hex").toString("base64").replace(/=+$/, "")
    }`;
    assert.equal(await isPassword("pleaseletmein", parsePasswordHash(known)), true);
  });

  it("that are none are refused, without being shown", () => {
    for (
      const text of ["secret", "$2y$05$abc", "$scrypt$ln=30,r=8,p=1$AAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAA"]
    ) {
      assert.throws(() => parsePasswordHash(text), (error: Error) => !error.message.includes(text));
    }
  });
});

const users = { alice: await hashPassword("right") };

describe("basicAuth", () => {
  it("lets through who knows it, and tells the target who it is", { timeout }, async () => {
    const handler = behind(basicAuth({ users, realm: "Home" }, clock));
    const nobody = await ask(handler);
    assert.equal(nobody.status, 401);
    assert.equal(nobody.field("www-authenticate"), 'Basic realm="Home", charset="UTF-8"');
    const alice = await ask(handler, {
      fields: [basic("alice", "right"), ["x-forwarded-user", "root"], ["x_forwarded_user", "root"]],
    });
    assert.deepEqual([alice.status, JSON.parse(alice.body)], [200, { "x-forwarded-user": "alice" }]);
    for (const wrong of [basic("alice", "wrong"), basic("bob", "right"), basic("", "")]) {
      assert.equal((await ask(handler, { fields: [wrong] })).status, 401);
    }
  });

  it(
    "isn't guessed: an address has few tries, and others notice nothing",
    { timeout: 2 * timeout },
    async () => {
      // The checks take longer than a minute on a busy machine.
      const still = Object.assign(Object.create(clock) as typeof clock, { nowMs: () => 0 });
      const handler = behind(basicAuth({ users }, still));
      for (let i = 0; i < GATE_FAILURES_PER_MINUTE_MAX; i++) {
        assert.equal((await ask(handler, { fields: [basic("alice", `wrong ${i}`)] })).status, 401);
      }
      assert.equal((await ask(handler, { fields: [basic("alice", "right")] })).status, 429);
      assert.equal(
        (await ask(handler, { fields: [basic("alice", "right")], visitor: "192.0.2.2" })).status,
        200,
      );
      // A hash that is already known isn't computed again.
      assert.equal((await ask(handler, { fields: [basic("alice", "right")] })).status, 200);
    },
  );
});

describe("oidcGate", () => {
  /** A provider of the smallest kind; what it says of the next visitor is set by the tests. */
  const provider = {
    issuer: "",
    claims: {} as Record<string, unknown>,
    nonce: "",
    challenge: "",
    secret: "",
    /** Its clock. */
    nowMs: () => Date.now(),
    /** What is done to an ID token on its way. */
    spoil: (token: string) => token,
  };
  let server: ReturnType<typeof createServer>;

  before(async () => {
    const { privateKey, publicKey } = await generateKeyPair("RS256");
    const jwk = { ...await exportJWK(publicKey), kid: "1", alg: "RS256", use: "sig" };
    const bodyOf = async (request: IncomingMessage) => {
      let text = "";
      for await (const part of request) text += String(part);
      return new URLSearchParams(text);
    };
    server = createServer(async (request, response) => {
      const json = (value: unknown, status = 200) => {
        response.writeHead(status, { "content-type": "application/json" });
        response.end(JSON.stringify(value));
      };
      if (request.url === "/.well-known/openid-configuration") {
        const { issuer } = provider;
        return json({
          issuer,
          authorization_endpoint: `${issuer}/authorize`,
          token_endpoint: `${issuer}/token`,
          jwks_uri: `${issuer}/jwks`,
          response_types_supported: ["code"],
          id_token_signing_alg_values_supported: ["RS256"],
        });
      }
      if (request.url === "/jwks") return json({ keys: [jwk] });
      const body = await bodyOf(request);
      const digest = createHash("sha256").update(body.get("code_verifier") ?? "").digest("base64url");
      if (body.get("code") !== "code-1" || digest !== provider.challenge) {
        return json({ error: "invalid_grant" }, 400);
      }
      const token = await new SignJWT({ nonce: provider.nonce, ...provider.claims })
        .setProtectedHeader({ alg: "RS256", kid: "1" }).setIssuer(provider.issuer).setAudience("sallyport")
        .setIssuedAt(new Date(provider.nowMs())).setNotBefore(new Date(provider.nowMs()))
        .setExpirationTime(new Date(provider.nowMs() + 300_000))
        .sign(privateKey);
      json({ access_token: "a", token_type: "Bearer", expires_in: 60, id_token: provider.spoil(token) });
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    provider.issuer = `http://127.0.0.1:${portOf(server)}`;
  });
  after(() => {
    server.closeAllConnections?.();
    server.close();
  });

  function gate(
    settings: Partial<OidcSettings> = {},
    store = new MemoryCertificateStore(),
    service = "site.example.org",
    more: Partial<Parameters<typeof oidcGate>[0]> = {},
  ) {
    return behind(oidcGate({
      settings: { issuer: provider.issuer, clientId: "sallyport", ...settings },
      ...{ service, clock, store, log: silentLogger, insecure: true, ...more },
    }));
  }

  const pair = (cookie: string | undefined) => cookie?.split(";")[0] ?? "";

  /** Signs in as `claims` say: the answer to the way back, and the cookie of the session. */
  async function signIn(
    handler: ReturnType<typeof gate>,
    claims: Record<string, unknown>,
    target = "/page?a=1",
  ) {
    const asked = await ask(handler, { target });
    assert.equal(asked.status, 302);
    const url = new URL(asked.field("location") ?? "");
    assert.equal(url.origin + url.pathname, `${provider.issuer}/authorize`);
    const query = Object.fromEntries(url.searchParams);
    assert.equal(query["redirect_uri"], `https://site.example.org${OIDC_CALLBACK_PATH}`);
    assert.equal(query["code_challenge_method"], "S256");
    Object.assign(provider, { claims, nonce: query["nonce"], challenge: query["code_challenge"] });
    assert.match(
      asked.setCookies[0] ?? "",
      /^__Host-.*; Path=\/; Max-Age=600; Secure; HttpOnly; SameSite=Lax$/,
    );
    const login = pair(asked.setCookies[0]);
    const back = await ask(handler, {
      target: `${OIDC_CALLBACK_PATH}?code=code-1&state=${query["state"]}`,
      fields: [["cookie", login]],
    });
    const session = pair(back.setCookies.find((cookie) => cookie.startsWith("__Host-sallyport-session=")));
    return { back, session, login };
  }

  it("goes by the session master's time on a machine whose clock is behind", { timeout }, async () => {
    const YEAR_MS = 365 * 86_400_000;
    const asked: string[] = [];
    const late = new MasterClock(clock);
    const more = {
      clock: late,
      fetch: (request: Request) => {
        asked.push(new URL(request.url).pathname);
        return fetch(request);
      },
    };
    const handler = gate({}, undefined, undefined, more);
    provider.nowMs = () => Date.now() + YEAR_MS;
    try {
      const { back } = await signIn(handler, { sub: "1", email: "a@example.org" });
      assert.equal(back.status, 400, "without the master's time its tokens are of the future");
      late.learn(Date.now() + YEAR_MS);
      const { back: again, session } = await signIn(handler, { sub: "1", email: "a@example.org" });
      assert.deepEqual([again.status, again.field("location")], [302, "/page?a=1"]);
      assert.equal((await ask(handler, { fields: [["cookie", session]] })).status, 200);
    } finally {
      provider.nowMs = () => Date.now();
    }
    assert.deepEqual(new Set(asked), new Set(["/.well-known/openid-configuration", "/token", "/jwks"]));
  });

  it("leads to the provider and back to the page, and tells the target who it is", { timeout }, async () => {
    const handler = gate();
    const { back, session } = await signIn(handler, { sub: "1", email: "a@example.org", groups: ["staff"] });
    assert.deepEqual([back.status, back.field("location")], [302, "/page?a=1"]);
    const fields: Field[] = [["cookie", `own=1; ${session}`], ["x-forwarded-email", "root@example.org"]];
    const page = await ask(handler, { fields });
    assert.equal(page.status, 200);
    assert.deepEqual(JSON.parse(page.body), {
      "cookie": "own=1",
      "x-forwarded-user": "1",
      "x-forwarded-email": "a@example.org",
      "x-forwarded-groups": "staff",
    });
    const out = await ask(handler, { target: OIDC_LOGOUT_PATH });
    assert.match(out.setCookies[0] ?? "", /^__Host-sallyport-session=; .*Max-Age=0/);
    assert.equal((await ask(handler, { method: "POST" })).status, 401);
  });

  it("lets those mails and groups through that are allowed, and those mails alone that were checked", {
    timeout,
  }, async () => {
    const cases: readonly [Partial<OidcSettings>, Record<string, unknown>, number][] = [
      [{ allowedMails: ["A@example.org"] }, { email: "a@example.org" }, 302],
      [{ allowedMails: ["a@example.org"] }, { email: "b@example.org" }, 403],
      [{ allowedMails: ["a@example.org"] }, { email: "a@example.org", email_verified: false }, 403],
      [{ allowedMails: ["a@example.org"] }, {}, 403],
      [{ allowedGroups: ["staff"] }, { groups: ["x", "staff"] }, 302],
      [{ allowedGroups: ["staff"] }, { email: "a@example.org" }, 403],
      [{ allowedGroups: ["staff"], allowedMails: ["a@example.org"] }, { email: "a@example.org" }, 302],
    ];
    for (const [settings, claims, status] of cases) {
      const { back } = await signIn(gate(settings), { sub: "1", ...claims });
      assert.equal(back.status, status, JSON.stringify([settings, claims]));
    }
  });

  it("keeps a sign-in over a new start, for this service alone, and as long as the visitor may come", {
    timeout,
  }, async () => {
    const store = new MemoryCertificateStore();
    const { session } = await signIn(gate({}, store), { sub: "1", email: "a@example.org" });
    const fields: Field[] = [["cookie", session]];
    assert.equal((await ask(gate({}, store), { fields })).status, 200);
    assert.equal((await ask(gate({}, store, "other.example.org"), { fields })).status, 302);
    assert.equal((await ask(gate({}), { fields })).status, 302, "another key");
    assert.equal((await ask(gate({ allowedMails: ["b@example.org"] }, store), { fields })).status, 403);
    const half = session.slice(0, -4) + "AAAA";
    assert.equal((await ask(gate({}, store), { fields: [["cookie", half]] })).status, 302);
  });

  it("refuses what doesn't belong together", { timeout }, async () => {
    const handler = gate();
    const { login } = await signIn(handler, { sub: "1" });
    const callback = (query: string, cookie: string) =>
      ask(handler, { target: `${OIDC_CALLBACK_PATH}?${query}`, fields: [["cookie", cookie]] });
    assert.equal((await callback("code=code-1&state=other", login)).status, 400);
    assert.equal((await callback("error=access_denied&state=x", login)).status, 400);
    assert.equal((await callback("code=code-1&state=x", "")).status, 400);
    // The one cookie isn't the other, though the same key has signed both.
    const session = login.replace("__Host-sallyport-login=", "__Host-sallyport-session=");
    assert.equal((await ask(handler, { fields: [["cookie", session]] })).status, 302);
    provider.spoil = (token) => `${token.slice(0, -6)}AAAAAA`;
    assert.equal(
      (await signIn(handler, { sub: "1" })).back.status,
      400,
      "a signature that isn't the provider's",
    );
    provider.spoil = (token) => token;
    const nonce = await signIn(handler, { sub: "1", nonce: "other" });
    assert.equal(nonce.back.status, 400);
  });

  it("leads back to this host alone", { timeout }, async () => {
    for (const target of ["//evil.example/x", "/\\evil.example", `${OIDC_LOGOUT_PATH}/x`]) {
      const { back } = await signIn(gate(), { sub: "1" }, target);
      assert.equal(back.field("location"), "/", target);
    }
  });

  it("says that the provider can't be reached", { timeout }, async () => {
    assert.equal((await ask(gate({ issuer: "http://127.0.0.1:1" }))).status, 502);
  });
});
