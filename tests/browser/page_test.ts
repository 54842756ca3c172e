// deno-lint-ignore-file no-explicit-any -- the project's types know no browser
/** The management page in a real browser: what is seen, heard and pressed, and what a hostile page can't do. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import type { AddressInfo } from "node:net";
import process from "node:process";
import { after, describe, it } from "node:test";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { decodeQR } from "qr/decode.js";
import { makeAgentKeys } from "../../src/protocol/token/agent_proof.ts";
import { ADMIN_KEY } from "../master/helpers.ts";
import { openPage, skipBrowser, startBrowser } from "./chromium.ts";
import { OPERATOR, type SampleMaster, startSampleMaster } from "./sample_master.ts";

// What functions find that run in the page.
declare const document: any;
declare const Image: any;

const timeout = 300_000;
const skip = await skipBrowser();
const AXE = skip === false
  ? readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8")
  : "";

/** It takes a while, and the HTML is the same from both runtimes. */
const ONCE = process.versions.deno !== undefined && "the run on Bun asks axe";
const DESKTOP = { width: 1280, height: 800 };
const PHONE = { width: 375, height: 812 };
/** Rules whose outcome hangs on colours and sizes; the others are asked once for each width. */
const BY_LOOK = ["color-contrast", "link-in-text-block", "target-size", "scrollable-region-focusable"];
interface Look {
  readonly name: string;
  readonly size: { readonly width: number; readonly height: number };
  readonly colours: "light" | "dark";
  readonly rules: readonly string[] | undefined;
}
const LOOKS: readonly [Look, Look, Look, Look] = [
  { name: "light, on a desktop", size: DESKTOP, colours: "light", rules: undefined },
  { name: "dark, on a desktop", size: DESKTOP, colours: "dark", rules: BY_LOOK },
  { name: "dark, on a phone", size: PHONE, colours: "dark", rules: undefined },
  { name: "light, on a phone", size: PHONE, colours: "light", rules: BY_LOOK },
];

let browser: Promise<Browser> | undefined;
let sample: Promise<SampleMaster> | undefined;

/** Starts what all tests share; the first one waits for it. */
async function setUp(): Promise<{ readonly browser: Browser; readonly master: SampleMaster }> {
  return { browser: await (browser ??= startBrowser()), master: await (sample ??= startSampleMaster()) };
}
after(async () => {
  await (await browser)?.close();
  await (await sample)?.stop();
});

/** Opens a page that is logged in. */
async function loggedIn(on: Browser, url: string, options: BrowserContextOptions = {}) {
  const opened = await openPage(on, options);
  await logIn(opened.page, url);
  return opened;
}

async function logIn(page: Page, url: string): Promise<void> {
  await page.goto(url);
  await page.fill("[name=key]", ADMIN_KEY);
  await page.keyboard.press("Enter");
  await page.waitForSelector("#facts");
}

/** What axe has to say against a page. */
function judge(page: Page, rules: readonly string[] | undefined): Promise<string[]> {
  return page.evaluate(async (only) => {
    const { violations } = await (globalThis as any).axe.run({
      resultTypes: ["violations"],
      ...only === undefined ? {} : { runOnly: only },
    });
    return violations.flatMap(
      (violation: any) =>
        violation.nodes.map((node: any) => `${violation.id}: ${node.html} ${node.failureSummary}`),
    );
  }, rules);
}

describe("the page in Chromium", { skip }, () => {
  it(
    "axe finds nothing on any view, none is too wide and none hides a part of its menu, in light and dark, on desktop and phone",
    {
      timeout,
      skip: ONCE,
    },
    async () => {
      const { browser, master } = await setUp();
      const { id } = await master.management.agent(OPERATOR, "home-berlin");
      const home = `/page/agents/${id}`;
      const first = await loggedIn(browser, master.url);
      const storageState = await first.page.context().storageState();
      await first.page.context().close();
      const faults: string[] = [];
      /** One page that goes from view to view; axe is a script from elsewhere, so that the policy must let it in. */
      const lane = async (
        walk: (page: Page, seen: (view: string, looks?: readonly Look[]) => Promise<void>) => Promise<void>,
        guest = false,
      ) => {
        const opened = await openPage(browser, {
          ...{ bypassCSP: true, reducedMotion: "reduce" as const },
          ...guest ? {} : { storageState },
        });
        const { page } = opened;
        await page.addInitScript(AXE);
        await walk(page, async (view, looks = LOOKS) => {
          for (const look of looks) {
            await page.setViewportSize(look.size);
            await page.emulateMedia({ colorScheme: look.colours });
            assert.deepEqual(await judge(page, look.rules), [], `${view}, ${look.name}`);
            const wide = await page.evaluate(() => document.documentElement.scrollWidth);
            assert.ok(wide <= look.size.width, `${view}, ${look.name}, is ${wide} pixels wide`);
            const hidden = await page.evaluate(() => {
              const menu = document.querySelector("nav");
              return menu === null ? 0 : menu.scrollWidth - menu.clientWidth;
            });
            assert.equal(hidden, 0, `pixels of the menu that ${view}, ${look.name}, hides`);
          }
        });
        faults.push(...opened.faults);
        await page.context().close();
      };
      const visits = (...paths: string[]) =>
        lane(async (page, seen) => {
          for (const path of paths) {
            await page.goto(master.url + path);
            await seen(path);
          }
        });
      await Promise.all([
        lane(async (page, seen) => {
          await page.goto(master.url);
          await seen("login");
          await page.fill("[name=key]", "wrong");
          await page.keyboard.press("Enter");
          await page.waitForSelector("[role=alert]");
          await seen("login refused");
        }, true),
        lane(async (page, seen) => {
          await page.goto(master.url);
          await page.waitForSelector("#chart canvas");
          await seen("overview");
          await page.goto(master.url + home);
          await seen("agent");
          await page.click("[popovertarget=suspend]");
          await seen("a question");
        }),
        lane(async (page, seen) => {
          await page.goto(`${master.url}/page/agents/new`);
          await page.fill("[name=name]", "new");
          await page.fill("[name=hostnames]", "not a hostname!");
          await page.click("main button[type=submit]");
          await page.waitForSelector("[role=alert]");
          await seen("a form with faults");
          await page.fill("[name=hostnames]", "new.example.org");
          await page.click("main button[type=submit]");
          await page.waitForSelector(".qr");
          await seen("start command");
        }),
        visits("/page/agents", "/page/agents?search=nobody", "/page/agents/nobody", `${home}?done=saved`),
        visits("/page/sessions", "/page/usage", `/page/usage?agent=${id}`),
        visits(`${home}/edit`, "/page/audit", "/page/keys"),
        lane(async (page, seen) => {
          await page.goto(`${master.url}/page/webhooks`);
          await seen("webhooks");
          await page.click("text=pager.example.com");
          await seen("a webhook");
          await page.click("text=Show >> nth=1");
          await seen("a message");
        }),
        lane(async (page, seen) => {
          // It is long: twice is enough.
          await page.goto(`${master.url}/docs`);
          await seen("/docs", [LOOKS[0], { ...LOOKS[2], rules: BY_LOOK }]);
        }, true),
      ]);
      assert.deepEqual(faults.filter((fault) => !/status of (401|404|422)/.test(fault)), []);
    },
  );

  it("shows sessions and traffic as they happen", { timeout }, async () => {
    const { browser, master } = await setUp();
    const { page, faults } = await loggedIn(browser, master.url);
    await page.waitForSelector("#live-state[data-state=on]");
    const agent = await master.management.agent(OPERATOR, "kiosk-04", "shop");
    const before = await page.textContent("#facts");
    assert.doesNotMatch(await page.textContent("#sessions") ?? "", /kiosk-04/);
    const of = { agent: agent.id, tenant: "shop" };
    const session = {
      ...{ ...of, id: "edge-1/live", hostname: "kiosk-04.shop.example.net", remote: "192.0.2.44" },
      ...{ transport: "snitun", cipher: "aes-gcm", sinceMs: Date.now(), streams: 1 },
      ...{ bytesToAgent: 0, bytesToVisitor: 0 },
    };
    const day = new Date().toISOString().slice(0, 10);
    await master.report({
      sessions: [session],
      usage: [{
        ...of,
        day,
        bytesToAgent: 2_000_000,
        bytesToVisitor: 40_000_000,
        streams: 1,
        connectedMs: 1,
      }],
    });
    await page.waitForSelector("#sessions :text('kiosk-04')");
    assert.notEqual(await page.textContent("#facts"), before);
    await page.waitForFunction(() =>
      /\d MB\/s$/.test(document.getElementById("rate-visitor")?.textContent ?? "")
    );
    await master.report({ closed: ["edge-1/live"] });
    await page.waitForSelector("#sessions :text('kiosk-04')", { state: "detached" });
    assert.deepEqual(faults, []);
    await page.context().close();
  });

  it(
    "adds an agent by keyboard alone; its command is copied, and its QR code says the same",
    { timeout },
    async () => {
      const { browser, master } = await setUp();
      const { page, faults } = await loggedIn(browser, master.url, {
        permissions: ["clipboard-read", "clipboard-write"],
      });
      const { keyboard } = page;
      const focused = () => page.evaluate(() => document.activeElement?.textContent?.trim() ?? "");
      await page.goto(`${master.url}/page/agents`);
      await keyboard.press("Tab");
      assert.equal(await focused(), "Skip to content");
      await keyboard.press("Enter");
      await keyboard.press("Tab");
      assert.equal(await focused(), "Add agent");
      await keyboard.press("Enter");
      await page.waitForSelector("[name=hostnames]");
      await keyboard.type("garden");
      await keyboard.press("Tab");
      await keyboard.type("garden.example.org");
      await page.focus("[name=name]");
      await keyboard.press("Enter");
      await page.waitForSelector(".qr");
      const command = await page.inputValue("#command");
      assert.match(command, /^sallyport agent --join 'http:\/\/127\.0\.0\.1:\d+\/#[\w-]{27}' --to http:/);
      await page.focus("[data-copy]");
      await keyboard.press("Space");
      await page.waitForSelector("#command-copied:text('Copied.')");
      assert.equal(await page.evaluate(() => (navigator as any).clipboard.readText()), command);
      assert.equal(await readQr(page), command);
      // The agent enrols and connects: the page says so by itself.
      const [, code = ""] = /#([\w-]{27})/.exec(command) ?? [];
      const agent = await master.management.enrol(code, makeAgentKeys().publicKey, "test");
      await master.report({
        sessions: [{
          ...{ id: "edge-1/garden", agent: agent.id, tenant: "default", hostname: "garden.example.org" },
          ...{
            remote: "192.0.2.45",
            transport: "snitun",
            cipher: "aes-gcm",
            sinceMs: Date.now(),
            streams: 0,
          },
          ...{ bytesToAgent: 0, bytesToVisitor: 0 },
        }],
      });
      await page.waitForSelector("#agent-state :text('online')");
      assert.deepEqual(faults, []);
      await page.context().close();
    },
  );

  it(
    "asks before it suspends; Escape leaves all as it was, and the keyboard comes back",
    { timeout },
    async () => {
      const { browser, master } = await setUp();
      const { page, faults } = await loggedIn(browser, master.url);
      const agent = await master.management.agent(OPERATOR, "cabin");
      const focused = () => page.evaluate(() => document.activeElement?.textContent?.trim() ?? "");
      await page.goto(`${master.url}/page/agents/${agent.id}`);
      await page.focus("[popovertarget=suspend]");
      await page.keyboard.press("Enter");
      await page.waitForSelector("#suspend:popover-open");
      assert.equal(await focused(), "Cancel");
      await page.keyboard.press("Escape");
      await page.waitForSelector("#suspend", { state: "hidden" });
      assert.equal(await focused(), "Suspend");
      assert.equal((await master.management.agent(OPERATOR, "cabin")).state, "active");
      await page.keyboard.press("Enter");
      await page.keyboard.press("Tab");
      await page.keyboard.press("Enter");
      await page.waitForSelector(".badge:text('suspended')");
      assert.match(await page.textContent("[role=status].note") ?? "", /^Suspended\./);
      assert.equal((await master.management.agent(OPERATOR, "cabin")).state, "suspended");
      assert.deepEqual(faults, []);
      await page.context().close();
    },
  );

  it("adds a webhook by keyboard, tests it, and removes it", { timeout }, async () => {
    const { browser, master } = await setUp();
    const { page, faults } = await loggedIn(browser, master.url);
    await page.goto(`${master.url}/page/webhooks`);
    await page.focus("[name=url]");
    await page.keyboard.type("https://chat.example.net/hook");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Space");
    await page.keyboard.press("Enter");
    assert.match(await page.inputValue("#made"), /^whsec_/);
    await page.click("text=send a test message");
    assert.match(
      await page.textContent("dl.plain") ?? "",
      /agent\.offline, certificate\.expiring, quota\.reached/,
    );
    await page.click("text=Send test message");
    await page.waitForSelector("[role=status]:text('has been delivered')");
    assert.match(await page.textContent("#deliveries") ?? "", /webhook\.test.*delivered.*status 204/);
    await page.click("[popovertarget=message-0]");
    assert.match(await page.textContent("#message-0 pre") ?? "", /"type": "webhook\.test"/);
    await page.keyboard.press("Escape");
    await page.click("[popovertarget=remove]");
    await page.click("#remove button[type=submit]");
    await page.waitForSelector("[role=status]:text('webhook is removed')");
    assert.doesNotMatch(await page.textContent("main") ?? "", /chat\.example\.net/);
    assert.deepEqual(faults, []);
    await page.context().close();
  });

  it("works without JavaScript", { timeout }, async () => {
    const { browser, master } = await setUp();
    const { page } = await loggedIn(browser, master.url, { javaScriptEnabled: false });
    assert.match(await page.textContent(".live") ?? "", /Not live/);
    assert.equal(await page.isVisible("[data-copy]"), false);
    await page.click("nav >> text=Agents");
    await page.click("text=Add agent");
    await page.fill("[name=name]", "plain");
    await page.fill("[name=hostnames]", "plain.example.org");
    await page.click("main button[type=submit]");
    assert.match(await page.inputValue("#command"), /--join/);
    await page.click("text=Show plain");
    await page.click("text=Edit");
    await page.click("summary");
    await page.fill("[name='limits.streams']", "7");
    await page.click("text=Save");
    assert.match(await page.textContent("main") ?? "", /Streams at the same time: 7/);
    await page.click("[popovertarget=remove]");
    await page.click("#remove button[type=submit]");
    assert.match(await page.textContent("main") ?? "", /Removed\./);
    await page.click("text=Log out");
    assert.equal(await page.isVisible("[name=key]"), true);
    await page.context().close();
  });

  it("shows hostile names, notes and addresses as text, and runs none of it", { timeout }, async () => {
    const { browser } = await setUp();
    const master = await startSampleMaster({}, false);
    try {
      const evil =
        `"'><img src=x onerror=alert(1)><script>alert(2)</script><svg onload=alert(3)>\${7*7}{{7*7}}`;
      const { agent } = await master.management.addAgent(OPERATOR, {
        ...{ name: evil, hostnames: ["a.example.org", evil], notes: `</textarea>${evil}`, tenant: evil },
        publish: [evil],
      });
      const of = { agent: agent.id, tenant: evil };
      const day = new Date().toISOString().slice(0, 10);
      await master.report({
        sessions: [{
          ...{ ...of, id: `edge-1/${evil}`, hostname: evil, remote: evil, transport: evil, cipher: evil },
          ...{ sinceMs: Date.now(), streams: 1, bytesToAgent: 1, bytesToVisitor: 1 },
        }],
        usage: [{ ...of, day, bytesToAgent: 1, bytesToVisitor: 1, streams: 1, connectedMs: 1 }],
      });
      const { page, faults } = await loggedIn(browser, master.url);
      const dialogs: string[] = [];
      page.on("dialog", (dialog) => (dialogs.push(dialog.message()), void dialog.dismiss()));
      const asked = encodeURIComponent(evil);
      const home = `/page/agents/${agent.id}`;
      for (
        const path of [
          ...["/", "/page/agents", `/page/agents?search=${asked}`, home, `${home}/edit`, "/page/sessions"],
          ...["/page/usage", `/page/usage?agent=${agent.id}`, "/page/audit", `/page/audit?subject=${asked}`],
        ]
      ) {
        await page.goto(master.url + path);
        assert.equal(await page.locator("img, main script, svg[onload]").count(), 0, path);
      }
      assert.match(await page.textContent("main") ?? "", /<img src=x onerror=alert\(1\)>/);
      assert.deepEqual([dialogs, faults], [[], []]);
      // What got in all the same would not run: no inline script, no HTML made of text, nothing from elsewhere.
      const refused = await page.evaluate(async () => {
        const broken: string[] = [];
        const refusal = new Promise((resolve) => {
          document.addEventListener("securitypolicyviolation", (event: any) => {
            if (event.effectiveDirective !== "connect-src") return;
            broken.push("connect-src");
            resolve(undefined);
          });
        });
        const inline = document.createElement("p");
        try {
          inline.setAttribute("onclick", "globalThis.ran = true");
          inline.click();
        } catch {
          broken.push("onclick");
        }
        const script = document.createElement("script");
        try {
          script.text = "globalThis.ran = true";
        } catch {
          broken.push("text of a script");
        }
        try {
          inline.innerHTML = "<img src=x onerror='globalThis.ran = true'>";
        } catch {
          broken.push("innerHTML");
        }
        await fetch("http://127.0.0.1:9/").catch(() => {});
        await refusal;
        return { broken, ran: (globalThis as { ran?: boolean }).ran };
      });
      assert.equal(refused.ran, undefined);
      for (const what of ["onclick", "innerHTML", "text of a script", "connect-src"]) {
        assert.ok(refused.broken.includes(what), `${what}: ${refused.broken}`);
      }
      await page.context().close();
    } finally {
      await master.stop();
    }
  });

  it(
    "another site can neither send its forms nor frame it, and no script reads the cookie",
    { timeout },
    async () => {
      const { browser, master } = await setUp();
      const { page } = await loggedIn(browser, master.url);
      assert.equal(await page.evaluate(() => document.cookie), "");
      const [cookie] = await page.context().cookies();
      assert.deepEqual([cookie?.httpOnly, cookie?.sameSite, cookie?.path], [true, "Strict", "/"]);
      const agent = await master.management.agent(OPERATOR, "kiosk-03", "shop");
      const evil = createServer((_, response) => {
        response.setHeader("content-type", "text/html");
        response.end(`<form method="post" action="${master.url}/page/agents/${agent.id}/suspend">
        <input name="token" value="guess"></form><iframe src="${master.url}/"></iframe>`);
      }).listen(0, "127.0.0.1");
      await once(evil, "listening");
      try {
        const { port } = evil.address() as AddressInfo;
        // One of them is the same site by the browser's rules, where the cookie goes along; the other isn't.
        for (const [host, status] of [["127.0.0.1", 403], ["evil.localhost", 403]] as const) {
          await page.goto(`http://${host}:${port}/`);
          assert.equal(await page.frames()[1]?.locator("[name=key], #facts").count(), 0, "it is framed");
          const answered = page.waitForResponse((response) => response.url().endsWith("/suspend"));
          await page.evaluate(() => document.forms[0]?.submit());
          assert.equal((await answered).status(), status, host);
          // The next visit must not meet this one's end.
          await page.waitForURL("**/suspend");
        }
        assert.equal((await master.management.agent(OPERATOR, "kiosk-03", "shop")).state, "active");
      } finally {
        evil.close();
        evil.closeAllConnections?.();
      }
      await page.context().close();
    },
  );
});

/** What the page's QR code says, read from its picture on an empty page, whose policy lets pictures in. */
async function readQr(page: Page): Promise<string> {
  const code = await page.innerHTML(".qr");
  const empty = await page.context().newPage();
  const image = await empty.evaluate(async (code) => {
    const size = 400;
    const picture = new Image();
    const svg = code.replace("<svg ", `<svg width="${size}" height="${size}" `);
    picture.src = `data:image/svg+xml,${encodeURIComponent(svg)}`;
    await picture.decode();
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = size;
    const context = canvas.getContext("2d");
    context.fillStyle = "white";
    context.fillRect(0, 0, size, size);
    context.drawImage(picture, 0, 0);
    return { width: size, height: size, data: [...context.getImageData(0, 0, size, size).data] };
  }, code);
  await empty.close();
  await page.bringToFront();
  return decodeQR({ ...image, data: new Uint8Array(image.data) });
}
