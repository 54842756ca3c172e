/** The gates in front of a service in a real browser: a certified provider of OpenID Connect, and a password. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, describe, it } from "node:test";
import { Provider } from "oidc-provider";
import type { Browser } from "playwright-core";
import { MemoryCertificateStore } from "../../src/agent/acme/certificate_store.ts";
import { basicAuth } from "../../src/agent/gate/basic_auth.ts";
import { OIDC_CALLBACK_PATH, OIDC_LOGOUT_PATH, oidcGate } from "../../src/agent/gate/oidc.ts";
import { hashPassword } from "../../src/agent/gate/password_hash.ts";
import { respondText } from "../../src/agent/http/exchange.ts";
import { type Layer, layered } from "../../src/agent/http/front.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { silentLogger } from "../../src/telemetry/log.ts";
import { fieldOf } from "../../src/wire/http1/fields.ts";
import { startTerminatedSite, type TerminatedSite } from "../support/terminated.ts";
import { openPage, skipBrowser, startBrowser } from "./chromium.ts";

const timeout = 180_000;
const skip = await skipBrowser();

describe("a gate in front of a service", { skip }, () => {
  let browser: Browser | undefined;
  const sites: TerminatedSite[] = [];
  const servers: Server[] = [];
  after(async () => {
    await browser?.close();
    for (const site of sites) site.stop();
    for (const server of servers) {
      server.close();
      server.closeAllConnections?.();
    }
  });

  /** A site behind a gate that says who has asked, and for what. */
  async function start(gate: Layer): Promise<string> {
    const site = await startTerminatedSite(layered((exchange) => {
      const { fields, target } = exchange.request;
      respondText(exchange, 200, `${fieldOf(fields, "x-forwarded-user")} asked for ${target}`);
    }, gate));
    sites.push(site);
    return `https://site.localhost:${site.port}`;
  }

  it("leads to the provider, back to the page that was asked for, and out again", { timeout }, async () => {
    let answer: RequestListener = (_, response) => response.end();
    const server = createServer((request, response) => answer(request, response)).listen(0, "127.0.0.1");
    servers.push(server);
    await once(server, "listening");
    const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const { clock } = await currentRuntime();
    const url = await start(oidcGate({
      settings: { issuer, clientId: "sallyport", allowedMails: ["ann@example.org"] },
      ...{ service: "site.localhost", clock, log: silentLogger, insecure: true },
      store: new MemoryCertificateStore(),
    }));
    answer = new Provider(issuer, {
      clients: [{
        client_id: "sallyport",
        token_endpoint_auth_method: "none",
        redirect_uris: [`${url}${OIDC_CALLBACK_PATH}`],
      }],
      pkce: { required: () => true },
      claims: { openid: ["sub"], email: ["email", "email_verified"] },
      conformIdTokenClaims: false,
      cookies: { keys: ["a key of the test"] },
      findAccount: (_: unknown, sub: string) => ({
        accountId: sub,
        claims: () => ({ sub, email: `${sub}@example.org`, email_verified: true }),
      }),
    }).callback();
    browser ??= await startBrowser();
    for (
      const [person, shown] of [["ann", /^ann asked for \/page\?a=1/], [
        "bob",
        /bob@example\.org, which doesn't/,
      ]] as const
    ) {
      const { page } = await openPage(browser, { ignoreHTTPSErrors: true });
      await page.goto(`${url}/page?a=1`);
      await page.fill("[name=login]", person);
      await page.fill("[name=password]", "any");
      await page.click("button[type=submit]");
      // The provider asks whether the site may know.
      await page.click("button[type=submit]");
      await page.waitForURL(`${url}/**`);
      assert.match(await page.textContent("body") ?? "", shown);
      await page.goto(`${url}${OIDC_LOGOUT_PATH}`);
      assert.deepEqual(
        (await page.context().cookies(url)).filter(({ name }) => name.includes("sallyport")),
        [],
      );
    }
  });

  it("asks for a password", { timeout }, async () => {
    const { clock } = await currentRuntime();
    const url = await start(basicAuth({ users: { ann: await hashPassword("right") } }, clock));
    browser ??= await startBrowser();
    const httpCredentials = { username: "ann", password: "right" };
    const { page } = await openPage(browser, { ignoreHTTPSErrors: true, httpCredentials });
    await page.goto(`${url}/page`);
    assert.match(await page.textContent("body") ?? "", /^ann asked for \/page/);
    const stranger = await openPage(browser, {
      ...{ ignoreHTTPSErrors: true, httpCredentials: { ...httpCredentials, password: "wrong" } },
    });
    const refused = await stranger.page.goto(`${url}/page`);
    assert.equal(refused?.status(), 401);
  });
});
