/** A session master behind https, and a clock that is behind: real servers whose certificates are dated ahead. */
import assert from "node:assert/strict";
import { createServer, type Server } from "node:net";
import { createServer as createHttps } from "node:https";
import { after, before, describe, it } from "node:test";
import { lateClockFetch, MasterClock, masterTimeFetch } from "../../src/agent/late_clock.ts";
import { challengeFlight } from "../../src/agent/tls/challenge_handshake.ts";
import { makeCertificate } from "../../src/crypto/certificate.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import type { Runtime } from "../../src/runtime/port.ts";
import { authority, issue, type Issued, server } from "../support/certificate_chain.ts";
import { portOf } from "../support/plain_peer.ts";

const DAY_MS = 86_400_000;
const timeout = 30_000;
const YEAR_MS = 365 * DAY_MS;

describe("lateClockFetch on a machine whose clock is a year behind", () => {
  /** The true time. */
  const nowMs = Date.now() + YEAR_MS;
  const servers: Server[] = [];
  let runtime: Runtime;
  let root: Issued;
  let middle: Issued;
  before(async () => {
    runtime = await currentRuntime();
    root = await issue("Root", undefined, nowMs, { extensions: authority(), fromMs: 0 });
    middle = await issue("Middle", root, nowMs, { extensions: authority(0), fromMs: 0 });
  });
  after(() => {
    for (const one of servers) one.close();
  });

  /** A master with this certificate, which says that it is `dateMs`; resolves with its URL and what it was asked. */
  async function start(site: Issued, by: readonly Issued[], dateMs?: number) {
    const asked: string[] = [];
    const key = Buffer.from(await crypto.subtle.exportKey("pkcs8", site.keys.privateKey)).toString("base64");
    const options = {
      cert: [site, ...by].map(({ pem }) => pem).join("\n"),
      key: `-----BEGIN PRIVATE KEY-----\n${key}\n-----END PRIVATE KEY-----\n`,
    };
    const one = createHttps(options, (request, response) => {
      let body = "";
      request.on("data", (chunk) => body += chunk);
      request.on("end", () => {
        asked.push(
          `${request.method} ${request.url} ${request.headers.authorization ?? "anonymous"} ${body}`,
        );
        response.sendDate = false;
        if (dateMs !== undefined) response.setHeader("date", new Date(dateMs).toUTCString());
        response.end("granted");
      });
    });
    await listening(one);
    return { url: `https://localhost:${portOf(one)}/v1/tokens`, asked };
  }

  async function listening(one: Server): Promise<void> {
    servers.push(one);
    await new Promise<void>((resolve) => one.listen(0, "127.0.0.1", resolve));
  }

  const site = () => issue("localhost", middle, nowMs, { extensions: server("localhost") });
  const ask = async (
    url: string,
    roots: readonly Issued[] = [root],
    clock = new MasterClock(runtime.clock),
  ) => {
    const pems = roots.map(({ pem }) => pem);
    const request = new Request(url, {
      method: "POST",
      headers: { authorization: "Bearer secret" },
      body: "{}",
    });
    const fetch = lateClockFetch({ runtime: { dial: runtime.dial, clock }, roots: () => pems });
    return await (await fetch(request)).text();
  };

  it("takes the master's Date, and sends its secret when the certificate is in order at that time", {
    timeout,
  }, async () => {
    const { url, asked } = await start(await site(), [middle], nowMs);
    const clock = new MasterClock(runtime.clock);
    assert.equal(await ask(url, [root], clock), "granted");
    assert.ok(Math.abs(clock.wallMs() - nowMs) < timeout);
    assert.deepEqual(asked.splice(0), ["HEAD / anonymous ", "POST /v1/tokens Bearer secret {}"]);
    assert.equal(await ask(url, [root], clock), "granted");
    assert.deepEqual(asked, ["POST /v1/tokens Bearer secret {}"]);
  });

  it(
    "sends no secret to a master whose certificate isn't in order in another respect",
    { timeout },
    async () => {
      const other = await issue("other.example.org", middle, nowMs, {
        extensions: server("other.example.org"),
      });
      const cases: [why: RegExp, site: Issued, dateMs: number | undefined, roots: readonly Issued[]][] = [
        [/no authority that this machine trusts/, await site(), nowMs, []],
        [/isn't for localhost/, other, nowMs, [root]],
        [/isn't valid on/, await site(), nowMs + YEAR_MS, [root]],
        [/isn't valid on/, await site(), Date.now(), [root]],
        [/has no Date/, await site(), undefined, [root]],
      ];
      for (const [why, certificate, dateMs, roots] of cases) {
        const { url, asked } = await start(certificate, [middle], dateMs);
        await assert.rejects(ask(url, roots), { code: "master_unreachable", message: why });
        assert.deepEqual(asked.filter((line) => line.includes("secret")), [], String(why));
      }
    },
  );

  it("reaches other servers by the master's time, and reads the trusted authorities once", {
    timeout,
  }, async () => {
    const { url, asked } = await start(await site(), [middle]);
    let reads = 0;
    const clock = new MasterClock(runtime.clock);
    const get = masterTimeFetch({ dial: runtime.dial, clock }, () => {
      reads++;
      return [root.pem];
    });
    // Its certificate isn't valid yet by the machine's clock.
    await assert.rejects(get(new Request(url)));
    clock.learn(nowMs);
    for (let i = 0; i < 2; i++) assert.equal(await (await get(new Request(url))).text(), "granted");
    assert.deepEqual([asked.length, reads], [2, 1]);
  });

  it("refuses a certificate that has expired, as ever", { timeout }, async () => {
    const expired = await issue("localhost", middle, nowMs, {
      ...{ extensions: server("localhost"), fromMs: 0, toMs: Date.now() - DAY_MS },
    });
    const { url, asked } = await start(expired, [middle], Date.now() - 2 * DAY_MS);
    await assert.rejects(ask(url));
    assert.deepEqual(asked, []);
  });

  it("refuses a server that hasn't the certificate's key", { timeout }, async () => {
    const request = { commonName: "localhost", names: ["localhost"], validDays: 2 * 365, wallMs: nowMs };
    const [{ certificatePem }, { keyPem }] = await Promise.all([
      makeCertificate(request),
      makeCertificate(request),
    ]);
    const thief = createServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", (hello) => {
        const flight = challengeFlight(new Uint8Array(hello as Buffer), { certificatePem, keyPem });
        if (flight !== undefined) socket.write(flight);
      });
    });
    await listening(thief);
    // It is trusted by name, and still isn't believed.
    await assert.rejects(
      lateClockFetch({
        runtime: { dial: runtime.dial, clock: new MasterClock(runtime.clock) },
        fetch: () => Promise.reject(new Error("CERT_NOT_YET_VALID")),
        roots: () => [certificatePem],
      })(new Request(`https://localhost:${portOf(thief)}/`)),
      { code: "endpoint_unreachable" },
    );
  });
});

describe("MasterClock", () => {
  it("goes by the master's time only while the machine's clock is behind", () => {
    let [nowMs, wallMs] = [500, 1_000_000];
    const clock = new MasterClock({
      nowMs: () => nowMs,
      wallMs: () => wallMs,
      after: () => ({ cancel() {} }),
      soon() {},
    });
    assert.deepEqual([clock.isBehind, clock.wallMs()], [false, 1_000_000]);
    clock.learn(YEAR_MS);
    [nowMs, wallMs] = [nowMs + 5_000, wallMs + 5_000];
    assert.deepEqual([clock.isBehind, clock.wallMs()], [true, YEAR_MS + 5_000]);
    clock.forget();
    assert.deepEqual([clock.isBehind, clock.wallMs()], [false, wallMs]);
    clock.learn(YEAR_MS + 5_000);
    // NTP has set it.
    wallMs = YEAR_MS + 5_100;
    assert.deepEqual([clock.isBehind, clock.wallMs()], [false, YEAR_MS + 5_100]);
  });
});
