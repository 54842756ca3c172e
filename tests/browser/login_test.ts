/** Logging in at the page by an identity provider: a certified one, in a real browser. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { after, describe, it } from "node:test";
import { Provider } from "oidc-provider";
import type { Browser, Page } from "playwright-core";
import { openPage, skipBrowser, startBrowser } from "./chromium.ts";
import { OPERATOR, startSampleMaster } from "./sample_master.ts";

const timeout = 180_000;
const skip = await skipBrowser();
/** What the provider says of its people. */
const PEOPLE: Readonly<Record<string, Record<string, unknown>>> = {
  ann: { sallyport_scopes: ["admin"] },
  shopkeeper: { sallyport_scopes: ["read"], sallyport_tenant: "shop" },
  carla: { groups: ["staff", "netops"] },
  bob: { groups: ["staff"] },
};

/** Starts a provider and a session master that know one another. */
async function startBoth() {
  let answer: RequestListener = (_, response) => response.end();
  const server = createServer((request, response) => answer(request, response)).listen(0, "127.0.0.1");
  await once(server, "listening");
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const client = { clientId: "sallyport", clientSecret: "a secret of the two" };
  const master = await startSampleMaster({
    pageProvider: {
      ...{ issuer, ...client, loginScopes: ["groups"] },
      grants: [{ scope: "read", claim: "groups", value: "netops" }],
    },
  });
  const provider = new Provider(issuer, {
    clients: [{
      client_id: client.clientId,
      client_secret: client.clientSecret,
      token_endpoint_auth_method: "client_secret_post",
      redirect_uris: [`${master.url}/page/login/callback`],
    }],
    pkce: { required: () => true },
    claims: { openid: ["sub", "sallyport_scopes", "sallyport_tenant"], groups: ["groups"] },
    scopes: ["openid", "groups"],
    conformIdTokenClaims: false,
    cookies: { keys: ["a key of the test"] },
    findAccount: (_: unknown, sub: string) => ({ accountId: sub, claims: () => ({ sub, ...PEOPLE[sub] }) }),
  });
  answer = provider.callback();
  return {
    issuer,
    master,
    async stop() {
      server.close();
      server.closeAllConnections?.();
      await master.stop();
    },
  };
}

/** Goes to the provider from the login page, and signs in there. */
async function signIn(page: Page, url: string, person: string): Promise<void> {
  await page.goto(url);
  await page.click("text=Continue with 127.0.0.1");
  await page.fill("[name=login]", person);
  await page.fill("[name=password]", "any");
  await page.click("button[type=submit]");
  // The provider asks whether the session master may know.
  await page.click("button[type=submit]");
}

describe("logging in by an identity provider", { skip }, () => {
  let browser: Browser | undefined;
  let both: Awaited<ReturnType<typeof startBoth>> | undefined;
  after(async () => {
    await browser?.close();
    await both?.stop();
  });

  it("lets in whom its claims let in, for what they allow, and nobody else", { timeout }, async () => {
    browser = await startBrowser();
    both = await startBoth();
    const { master } = both;
    const ann = await openPage(browser);
    await signIn(ann.page, master.url, "ann");
    await ann.page.waitForSelector("#facts");
    assert.equal(await ann.page.textContent(".who .name"), "oidc:ann");
    const cookies = await ann.page.context().cookies(master.url);
    assert.deepEqual(
      // The provider's own are there too: to cookies all ports of a host are one.
      cookies.filter(({ name }) => name.startsWith("sallyport"))
        .map(({ name, httpOnly, sameSite }) => [name, httpOnly, sameSite]),
      [["sallyport", true, "Strict"]],
    );
    await ann.page.goto(`${master.url}/page/agents/new`);
    await ann.page.fill("[name=name]", "by-ann");
    await ann.page.fill("[name=hostnames]", "ann.example.org");
    await ann.page.click("main button[type=submit]");
    await ann.page.waitForSelector(".qr");
    const [last] = (await master.store.audit({ limit: 1 })).items;
    assert.deepEqual([last?.actor, last?.action], ["oidc:ann", "agent.added"]);
    // The provider's own pages ask for fonts from elsewhere.
    assert.deepEqual(ann.faults.filter((fault) => fault.includes(master.url)), []);

    const shop = await openPage(browser);
    await signIn(shop.page, master.url, "shopkeeper");
    await shop.page.click("nav >> text=Agents");
    const shown = await shop.page.textContent("main") ?? "";
    assert.match(shown, /kiosk-03/);
    assert.doesNotMatch(shown, /home-berlin|Add agent/);

    const carla = await openPage(browser);
    await signIn(carla.page, master.url, "carla");
    await carla.page.click("nav >> text=Agents");
    const all = await carla.page.textContent("main") ?? "";
    assert.match(all, /home-berlin/);
    assert.doesNotMatch(all, /Add agent/);

    const bob = await openPage(browser);
    await signIn(bob.page, master.url, "bob");
    assert.match(
      await bob.page.textContent("[role=alert]") ?? "",
      /You are signed in as bob, who may not see this page/,
    );
    await bob.page.goto(`${master.url}/page/agents`);
    assert.equal(await bob.page.isVisible("[name=key]"), true);
  });

  it("takes no answer that doesn't belong to a login of this browser", { timeout }, async () => {
    const { master, issuer } = both!;
    const begin = await fetch(`${master.url}/page/login/provider`, { redirect: "manual" });
    await begin.body?.cancel();
    const [cookie = ""] = (begin.headers.get("set-cookie") ?? "").split(";");
    assert.match(
      begin.headers.get("set-cookie") ?? "",
      /Max-Age=600; Path=\/page\/login; HttpOnly; SameSite=Lax/,
    );
    const asked = new URL(begin.headers.get("location") ?? "");
    assert.equal(asked.searchParams.get("code_challenge_method"), "S256");
    const state = asked.searchParams.get("state");
    const back = async (query: string, headers: Record<string, string>) => {
      const answer = await fetch(`${master.url}/page/login/callback?${query}`, {
        headers,
        redirect: "manual",
      });
      assert.doesNotMatch(answer.headers.get("set-cookie") ?? "", /sallyport=[\w-]/);
      await answer.body?.cancel();
      return answer.status;
    };
    const iss = `iss=${encodeURIComponent(issuer)}`;
    assert.equal(await back(`code=x&state=${state}&${iss}`, {}), 400);
    assert.equal(await back(`code=x&state=other&${iss}`, { cookie }), 401);
    assert.equal(await back(`code=x&state=${state}&${iss}`, { cookie }), 401);
    assert.equal(await back(`error=access_denied&state=${state}&${iss}`, { cookie }), 401);
    assert.equal((await master.management.agent(OPERATOR, "home-berlin")).state, "active");
  });

  it("says that the provider can't be reached, and still takes a key", { timeout }, async () => {
    const master = await startSampleMaster(
      { pageProvider: { issuer: "http://127.0.0.1:9", clientId: "x" } },
      false,
    );
    try {
      const answer = await fetch(`${master.url}/page/login/provider`, { redirect: "manual" });
      assert.equal(answer.status, 503);
      assert.match(await answer.text(), /can&#39;t be reached.*name="key"/s);
    } finally {
      await master.stop();
    }
  });
});
