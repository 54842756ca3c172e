/** An operator's first agent, and a visitor's look at its site, in a real browser; all of it real processes. */
import assert from "node:assert/strict";
import { createHash, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { after, describe, it } from "node:test";
import type { Browser } from "playwright-core";
import { makeAuthority, makeCertificate } from "../../src/crypto/certificate.ts";
import { Program, startServe } from "../cli/program.ts";
import { openPage, skipBrowser, startBrowser } from "./chromium.ts";

const timeout = 90_000;
const skip = await skipBrowser();
/** RFC 6455 §1.3. */
const WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const PAGE = `<!doctype html><html lang="en"><title>At home</title><h1>At home</h1><p id="said">…</p><script>
  const socket = new WebSocket("wss://" + location.host + "/echo");
  socket.onopen = () => socket.send("hello from the browser");
  socket.onmessage = ({ data }) => document.getElementById("said").textContent = data;
  socket.onclose = ({ code }) => document.getElementById("said").textContent = "closed with " + code;
</script></html>`;

/** A site of plain HTTP whose page opens a WebSocket that sends back what it gets, in capitals. */
async function startSite(): Promise<
  { readonly server: Server; readonly port: number; readonly asked: IncomingMessage[] }
> {
  const asked: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    asked.push(request);
    response.setHeader("content-type", "text/html");
    response.end(PAGE);
  });
  server.on("upgrade", (request: IncomingMessage, socket: Duplex) => {
    asked.push(request);
    const accept = createHash("sha1").update(`${request.headers["sec-websocket-key"]}${WEBSOCKET_GUID}`);
    socket.on("error", () => {});
    socket.write(
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
        `Sec-WebSocket-Accept: ${accept.digest("base64")}\r\n\r\n`,
    );
    // One short masked frame of text: that is all that the page sends.
    socket.on("data", (frame: Uint8Array) => {
      if (frame[0] !== 0x81) return;
      const length = frame[1]! & 0x7f;
      const said = frame.subarray(6, 6 + length).map((byte, at) => byte ^ frame[2 + at % 4]!);
      const answer = new TextEncoder().encode(new TextDecoder().decode(said).toUpperCase());
      socket.write(Uint8Array.of(0x81, answer.length, ...answer));
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { server, port: (server.address() as AddressInfo).port, asked };
}

describe("a site behind edge and agent, in Chromium", { skip }, () => {
  const programs: Program[] = [];
  let folder = "";
  let browser: Browser | undefined;
  let site: Server | undefined;
  after(async () => {
    await browser?.close();
    await Promise.all(programs.map((program) => program.kill()));
    site?.closeAllConnections?.();
    site?.close();
    if (folder !== "") await rm(folder, { recursive: true, force: true });
  });

  it(
    "is started with what the page says, comes over HTTP/2 with its WebSocket, and ends when it is suspended",
    { timeout },
    async () => {
      folder = await mkdtemp(join(tmpdir(), "sallyport-browser-"));
      const wallMs = Date.now();
      const authority = await makeAuthority({ commonName: "The tests' own authority", validDays: 2, wallMs });
      const made = await makeCertificate({
        commonName: "app.localhost",
        names: ["app.localhost"],
        validDays: 2,
        wallMs,
        authority,
      });
      const [certificate, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
      await writeFile(certificate, made.certificatePem + authority.certificatePem);
      await writeFile(key, made.keyPem);
      const started = await startSite();
      site = started.server;

      const start = (args: readonly string[]) => {
        const program = new Program(args);
        programs.push(program);
        return program;
      };
      const data = join(folder, "edge");
      const { port, master } = await startServe(start, data);
      // The browser trusts this authority, and no other than those it knows.
      const pin = createHash("sha256").update(
        new X509Certificate(authority.certificatePem).publicKey.export({ type: "spki", format: "der" }),
      ).digest("base64");
      browser = await startBrowser([`--ignore-certificate-errors-spki-list=${pin}`]);
      const { page, faults } = await openPage(browser);

      // The operator adds an agent at the page of the session master, and starts it with what the page says.
      await page.goto(master);
      await page.fill("[name=key]", (await readFile(join(data, "admin.key"), "utf8")).trim());
      await page.keyboard.press("Enter");
      await page.click("text=Add your first agent");
      await page.fill("[name=name]", "app");
      await page.fill("[name=hostnames]", "app.localhost");
      await page.click("main button[type=submit]");
      const [, link = ""] = /^sallyport agent --join '(.*)' --to /.exec(await page.inputValue("#command")) ??
        [];
      const agent = start([
        ...["agent", "--join", link, "--to", `http://127.0.0.1:${started.port}`],
        ...["--data-dir", join(folder, "agent"), "--tls", `file:${certificate},${key}`],
      ]);
      await agent.seen(/connected to the edge/, "stderr");
      await page.waitForSelector("#agent-state :text('online')");

      const visitor = await openPage(browser);
      const answer = await visitor.page.goto(`https://app.localhost:${port}/`);
      assert.equal(answer?.status(), 200);
      assert.equal(await visitor.page.textContent("h1"), "At home");
      await visitor.page.waitForSelector("#said:text('HELLO FROM THE BROWSER')");
      assert.equal(
        await visitor.page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol"),
        "h2",
      );
      assert.equal((await answer?.securityDetails())?.issuer, "The tests' own authority");
      const [shown, upgraded] = ["/", "/echo"].map((path) =>
        started.asked.find(({ url }) => url === path)?.headers
      );
      assert.equal(shown?.["x-forwarded-proto"], "https");
      assert.equal(upgraded?.origin, `https://app.localhost:${port}`);
      assert.deepEqual(visitor.faults, []);

      // What the operator suspends has ended: the visitor's WebSocket closes, and nobody comes in.
      await page.click("text=Show app");
      await page.click("[popovertarget=suspend]");
      await page.click("#suspend button[type=submit]");
      await visitor.page.waitForSelector("#said:text('closed with 1006')");
      await page.waitForSelector(".badge:text('suspended')");
      await assert.rejects(visitor.page.goto(`https://app.localhost:${port}/`), /ERR_/);
      assert.deepEqual(faults, []);
    },
  );
});
