/** What is said of an authority that can't be reached, with this runtime's own client and server. */
import assert from "node:assert/strict";
import { createServer } from "node:https";
import { after, before, describe, it } from "node:test";
import { authorityFetch } from "../../../src/agent/acme/https_client.ts";
import { MasterClock } from "../../../src/agent/late_clock.ts";
import { makeAuthority, makeCertificate } from "../../../src/crypto/certificate.ts";
import { currentRuntime } from "../../../src/runtime/mod.ts";
import { authority, issue, server as certifies } from "../../support/certificate_chain.ts";
import { freePorts } from "../../support/free_ports.ts";
import type { DialOptions } from "../../../src/runtime/port.ts";
import { portOf } from "../../support/plain_peer.ts";

/** Bun's default is short for loading a hundred roots on a busy machine. */
const timeout = 30_000;
const YEAR_MS = 365 * 86_400_000;

describe("authorityFetch", () => {
  let server: ReturnType<typeof createServer>;
  before(async () => {
    const request = { commonName: "localhost", names: ["localhost"], validDays: 3, wallMs: Date.now() };
    const { certificatePem: cert, keyPem: key } = await makeCertificate(request);
    server = createServer({ cert, key }, (_, answer) => answer.end());
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  });
  after(() => server.close());

  const from = (port: number) =>
    authorityFetch()({ method: "GET", url: `https://localhost:${port}/directory` });

  it("names the flag for a private authority that isn't trusted", async () => {
    await assert.rejects(from(portOf(server)), {
      code: "authority_unreachable",
      message: /^Cannot reach certificate authority https:.* doesn't trust .* --acme-ca, or .* clock$/,
    });
  });

  it(
    "reaches an authority by the session master's time while the machine's clock is behind",
    { timeout },
    async () => {
      const { dial, clock } = await currentRuntime();
      const nowMs = Date.now() + YEAR_MS;
      const root = await issue("Root", undefined, nowMs, { extensions: authority(), fromMs: 0 });
      const site = await issue("localhost", root, nowMs, { extensions: certifies("localhost") });
      const key = Buffer.from(await crypto.subtle.exportKey("pkcs8", site.keys.privateKey)).toString(
        "base64",
      );
      const ahead = createServer({
        cert: site.pem,
        key: `-----BEGIN PRIVATE KEY-----\n${key}\n-----END PRIVATE KEY-----\n`,
      }, (request, answer) => {
        request.pipe(
          answer.setHeader("link", '<https://a.test/terms>;rel="terms", <https://a.test/up>;rel="up"'),
        );
      });
      await new Promise<void>((resolve) => ahead.listen(0, "127.0.0.1", resolve));
      const late = { dial, clock: new MasterClock(clock) };
      const ask = () =>
        authorityFetch(root.pem, late)({
          ...{ method: "POST", body: "{}", url: `https://localhost:${portOf(ahead)}/order` },
        });
      await assert.rejects(ask(), { code: "authority_unreachable" });
      late.clock.learn(nowMs);
      const { status, text, links } = await ask();
      assert.deepEqual({ status, text, links: links.length }, { status: 200, text: "{}", links: 2 });
      const stranger = authorityFetch(undefined, late);
      await assert.rejects(stranger({ method: "GET", url: `https://localhost:${portOf(ahead)}/` }), {
        message: /no authority that this machine trusts/,
      });
      ahead.close();
    },
  );

  it("goes through the machine's proxy, which alone knows the authority", { timeout }, async () => {
    const { dial, clock } = await currentRuntime();
    const asked: string[] = [];
    const proxied = (to: DialOptions) => {
      asked.push(to.host);
      return dial({ ...to, host: "127.0.0.1" });
    };
    const request = { commonName: "authority", names: ["authority.test"], validDays: 2, wallMs: Date.now() };
    const root = await makeAuthority(request);
    const { certificatePem: cert, keyPem: key } = await makeCertificate({ ...request, authority: root });
    const site = createServer({ cert, key }, (_, answer) => answer.end("directory"));
    await new Promise<void>((resolve) => site.listen(0, "127.0.0.1", resolve));
    const late = { dial: proxied, clock: new MasterClock(clock), proxied: true };
    const url = `https://authority.test:${portOf(site)}/`;
    const { text } = await authorityFetch(root.certificatePem, late)({ method: "GET", url });
    assert.deepEqual([text, asked], ["directory", ["authority.test"]]);
    site.close();
  });

  it("says so where nobody listens", async () => {
    await assert.rejects(from(await freePorts(1)), {
      message: /connection refused: nothing listens at localhost:/,
    });
  });
});
