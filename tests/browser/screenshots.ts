/**
 * Takes the documents' pictures of the management page, of a sample that looks the same each time.
 *
 * ```sh
 * deno task screenshots
 * ```
 *
 * @module
 */
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import type { Page } from "playwright-core";
import { ADMIN_KEY } from "../master/helpers.ts";
import { openPage, skipBrowser, startBrowser } from "./chromium.ts";
import { OPERATOR, startSampleMaster } from "./sample_master.ts";

const FOLDER = join(dirname(dirname(dirname(fileURLToPath(import.meta.url)))), "docs", "images");
const DESKTOP = { viewport: { width: 1200, height: 750 } };
const PHONE = { viewport: { width: 375, height: 720 }, deviceScaleFactor: 2 };
/** The chart has something to show after this time. */
const TRAFFIC_MS = 60_000;
const TRAFFIC_STEP_MS = 1_000;

const without = await skipBrowser();
if (without !== false) {
  console.error(`Cannot take pictures: ${without}`);
  process.exit(1);
}
const master = await startSampleMaster();
const browser = await startBrowser();
try {
  await mkdir(FOLDER, { recursive: true });
  const agent = await master.management.agent(OPERATOR, "home-berlin");
  const desktop = await open(DESKTOP);
  await moveTraffic(agent.id);
  await desktop.waitForTimeout(3_000);
  await take(desktop, "overview");
  await desktop.goto(`${master.url}/page/agents`);
  await take(desktop, "agents");
  await desktop.goto(`${master.url}/page/webhooks`);
  await take(desktop, "webhooks");
  await desktop.goto(`${master.url}/page/agents/new`);
  await desktop.fill("[name=name]", "garden");
  await desktop.fill("[name=hostnames]", "garden.example.org");
  await desktop.click("main button[type=submit]");
  await desktop.waitForSelector(".qr");
  await take(desktop, "start");
  const dark = await open({ ...DESKTOP, colorScheme: "dark" });
  await dark.goto(`${master.url}/page/usage`);
  await dark.waitForSelector("canvas");
  await take(dark, "usage-dark");
  const phone = await open({ ...PHONE, colorScheme: "dark" });
  await phone.goto(`${master.url}/page/agents/${agent.id}`);
  await take(phone, "agent-phone");
} finally {
  await browser.close();
  await master.stop();
}

/** Opens a page that is logged in. */
async function open(options: Parameters<typeof openPage>[1]): Promise<Page> {
  const { page } = await openPage(browser, options);
  await page.goto(master.url);
  await page.fill("[name=key]", ADMIN_KEY);
  await page.keyboard.press("Enter");
  await page.waitForSelector("#facts");
  return page;
}

/** Reports traffic that rises and falls, for the chart. */
async function moveTraffic(agent: string): Promise<void> {
  const day = new Date().toISOString().slice(0, 10);
  for (let at = 0; at * TRAFFIC_STEP_MS < TRAFFIC_MS; at++) {
    const wave = (period: number) => 1 + Math.sin(at / period);
    await master.report({
      usage: [{
        ...{ agent, tenant: "default", day, streams: 1, connectedMs: TRAFFIC_STEP_MS },
        bytesToAgent: Math.round(400_000 * (1 + wave(5))),
        bytesToVisitor: Math.round(2_500_000 * (0.8 + wave(8) + 0.4 * wave(2.5))),
      }],
    });
    await new Promise((resolve) => setTimeout(resolve, TRAFFIC_STEP_MS));
  }
}

async function take(page: Page, name: string): Promise<void> {
  await page.screenshot({ path: join(FOLDER, `page-${name}.png`), animations: "disabled", caret: "hide" });
  console.log(`docs/images/page-${name}.png`);
}
