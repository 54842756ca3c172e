/**
 * Chromium for tests: the system's, driven by playwright-core, which brings no browser of its own.
 *
 * @module
 */
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { findProgram, skipWithout } from "../support/system_programs.ts";

/** How long anything that a browser is to do may take. */
export const BROWSER_PATIENCE_MS = 60_000;

/** A reason to skip tests in a browser, which it prints, or false. */
export async function skipBrowser(): Promise<string | false> {
  const reason = await skipWithout("chromium");
  if (reason !== false) console.warn(`Tests in a browser are skipped: ${reason}`);
  return reason;
}

/** Tests reach nothing but this machine, whatever a page asks for. */
const LOOPBACK_ONLY = "MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost, EXCLUDE 127.0.0.1";

/** Starts Chromium, headless, with these flags. */
export async function startBrowser(flags: readonly string[] = []): Promise<Browser> {
  return await chromium.launch({
    executablePath: await findProgram("chromium"),
    args: ["--disable-dev-shm-usage", `--host-resolver-rules=${LOOPBACK_ONLY}`, ...flags],
    // Signals are for the tests that send them: all files share a process on Bun.
    ...{ handleSIGINT: false, handleSIGTERM: false, handleSIGHUP: false },
    timeout: 60_000,
  });
}

/** A page of its own, without another one's cookies; what goes wrong in it is collected. */
export async function openPage(
  browser: Browser,
  options: BrowserContextOptions = {},
): Promise<{ readonly page: Page; readonly faults: string[] }> {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(BROWSER_PATIENCE_MS);
  const page = await context.newPage();
  const faults: string[] = [];
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("console", (message) => {
    if (message.type() === "error") faults.push(`${message.text()} (${message.location().url})`);
  });
  return { page, faults };
}
