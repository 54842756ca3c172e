/** Certificates from a real authority: Pebble, which refuses nonces and gives answers late. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, describe, it } from "node:test";
import { connect as connectTls } from "node:tls";
import {
  CertificateManager,
  type CertificateManagerOptions,
} from "../../../src/agent/acme/certificate_manager.ts";
import { MemoryCertificateStore } from "../../../src/agent/acme/certificate_store.ts";
import { dnsHookProgram } from "../../../src/dns/dns_hook.ts";
import { FileCertificateStore } from "../../../src/agent/acme/file_certificate_store.ts";
import { TlsTerminator } from "../../../src/agent/tls/terminator.ts";
import { SallyportError } from "../../../src/errors.ts";
import { currentRuntime } from "../../../src/runtime/mod.ts";
import type { Listener } from "../../../src/runtime/port.ts";
import { Faults } from "../../../src/runtime/shared.ts";
import { AlertDescription } from "../../../src/wire/tls/tls_alert.ts";
import { type Pebble, skipPebble, startPebble, writeDnsHook } from "../../support/pebble.ts";

const timeout = 60_000;
const skip = await skipPebble();
const runtime = await currentRuntime();

/** TLS for names of one manager, which changes from test to test: where the authority and visitors come. */
class Site {
  manager: CertificateManager | undefined;
  readonly #terminator = new TlsTerminator({
    clock: runtime.clock,
    faults: new Faults(),
    choose: async ({ serverName = "", alpnProtocols }) => {
      const error = new SallyportError("certificate_unavailable", "Cannot serve visitor: no certificate", {
        side: "local",
      });
      if (alpnProtocols.includes("acme-tls/1")) {
        const challenge = this.manager?.challengeOf(serverName);
        if (challenge !== undefined) return { challenge };
        return { alert: AlertDescription.no_application_protocol, error };
      }
      const wildcard = serverName.replace(/^[^.]+/, "*");
      const context = await this.manager?.contextOf(serverName) ?? await this.manager?.contextOf(wildcard);
      if (context !== undefined) return { context, alpnProtocols: ["http/1.1"] };
      return { alert: AlertDescription.unrecognized_name, error };
    },
  });
  #listener!: Listener;

  async listen(): Promise<number> {
    this.#listener = await runtime.listen({
      host: "127.0.0.1",
      port: 0,
      accept: (conn) =>
        this.#terminator.accept(conn, {
          failed() {},
          secured: ({ stream }) => {
            stream.attach({ data() {}, end: () => stream.closeWrite(), drain() {}, close() {} });
            stream.write(new TextEncoder().encode("hello"));
          },
        }),
    });
    return this.#listener.address.port;
  }

  close(): void {
    this.#listener.close();
  }
}

describe("CertificateManager: certificates from Pebble", { skip }, () => {
  const site = new Site();
  let pebble: Pebble;
  let port = 0;

  // Not in a hook, which Bun ends after 5 s.
  it("need Pebble, which starts", { timeout }, async () => {
    port = await site.listen();
    pebble = await startPebble({ tlsPort: port });
  });
  after(async () => {
    site.close();
    await pebble?.stop();
  });

  function manage(options: Partial<CertificateManagerOptions> = {}): CertificateManager {
    site.manager?.close();
    return site.manager = new CertificateManager({
      clock: runtime.clock,
      store: new MemoryCertificateStore(),
      authorities: [pebble.directory],
      authorityCaPem: pebble.caPem,
      ...options,
    });
  }

  /** The serial number of the certificate that a visitor sees, who verifies it; it waits for an order to end. */
  async function visit(name: string): Promise<string> {
    // Longer than the agent makes visitors wait: on a busy machine an order takes more than its 10 s.
    for (const ordered of [name, name.replace(/^[^.]+/, "*")]) await site.manager?.settled(ordered);
    const socket = connectTls({
      host: "127.0.0.1",
      port,
      servername: name,
      ca: await pebble.root(),
      ALPNProtocols: ["http/1.1"],
    });
    await once(socket, "secureConnect");
    const [data] = await once(socket, "data");
    assert.equal(String(data), "hello");
    const { serialNumber } = socket.getPeerCertificate();
    socket.destroy();
    return serialNumber;
  }

  it("are there for the first visitor, kept for their owner alone, and used again", { timeout }, async () => {
    const folder = await mkdtemp(join(tmpdir(), "sallyport-certificates-"));
    const store = new FileCertificateStore(join(folder, "store"));
    const first = manage({ store, mails: ["me@example.org"] });
    first.manage("home.example.org");
    const serial = await visit("home.example.org");
    const [facts] = first.certificates();
    assert.match(facts?.issuer ?? "", /Pebble/);
    assert.ok((facts?.notAfterMs ?? 0) > Date.now());
    await first.settled("home.example.org");
    const files = (await readdir(folder, { recursive: true, withFileTypes: true })).filter((entry) =>
      entry.isFile()
    );
    assert.equal(files.length, 2, "an account and a certificate");
    if (process.platform !== "win32") {
      for (const file of files) {
        assert.equal((await stat(join(file.parentPath, file.name))).mode & 0o777, 0o600);
      }
      assert.equal((await stat(join(folder, "store", "certificates"))).mode & 0o777, 0o700);
    }
    const second = manage({ store });
    second.manage("home.example.org");
    assert.equal(await visit("home.example.org"), serial);
    // A certificate of another authority isn't used, such as that of a staging one.
    const text = await readFile(join(folder, "store", "certificates", "home.example.org.pem"), "utf8");
    await store.write(
      "certificates/home.example.org.pem",
      text.replace(/^# Authority: .*/, "# Authority: https://other/dir"),
    );
    const third = manage({ store });
    third.manage("home.example.org");
    assert.notEqual(await visit("home.example.org"), serial);
    await rm(folder, { recursive: true, force: true });
  });

  it("are renewed when the authority wants it, and no visitor is lost meanwhile", { timeout }, async () => {
    const manager = manage();
    manager.manage("busy.example.org");
    const serials = new Set([await visit("busy.example.org")]);
    let renewing = true;
    const visitors = Array.from({ length: 8 }, async () => {
      let visits = 0;
      while (renewing) {
        serials.add(await visit("busy.example.org"));
        visits++;
      }
      return visits;
    });
    await manager.renew("busy.example.org");
    await manager.renew("busy.example.org");
    renewing = false;
    const visits = await Promise.all(visitors);
    serials.add(await visit("busy.example.org"));
    assert.ok(visits.every((count) => count > 0), String(visits));
    assert.equal(serials.size, 3);
  });

  it("are renewed early where the authority's window (RFC 9773) says so", { timeout }, async () => {
    const store = new MemoryCertificateStore();
    manage({ store }).manage("early.example.org");
    const serial = await visit("early.example.org");
    const text = await store.read("certificates/early.example.org.pem") ?? "";
    const [certificate = ""] = /-----BEGIN CERTIFICATE-----[^]+?-----END CERTIFICATE-----\n?/.exec(text) ??
      [];
    // It is good for days; revoked, say, it has to go now.
    const [hourAgo, minuteAgo] = [3600_000, 60_000].map((ms) => new Date(Date.now() - ms));
    await pebble.setRenewalWindow(certificate, hourAgo!, minuteAgo!);
    manage({ store }).manage("early.example.org");
    let renewed = serial;
    while (renewed === serial) renewed = await visit("early.example.org");
    assert.match(pebble.output(), /is a replacement of/);
    // The new one has the authority's usual window: it stays.
    manage({ store }).manage("early.example.org");
    assert.equal(await visit("early.example.org"), renewed);
  });

  it("come for a wildcard by a DNS record that a program sets", { timeout }, async () => {
    const folder = await mkdtemp(join(tmpdir(), "sallyport-hook-"));
    const program = await writeDnsHook(folder, pebble);
    const manager = manage({ dnsHook: dnsHookProgram(program) });
    manager.manage("*.wild.example.org");
    await visit("a.wild.example.org");
    const calls = (await readFile(join(folder, "calls"), "utf8")).trimEnd().split("\n");
    const record = "_acme-challenge.wild.example.org wild.example.org";
    assert.deepEqual(calls, [`present ${record}`, `cleanup ${record}`]);
    // And for a name that is set to it, without a way to the agent.
    const byDns = manage({ dnsHook: dnsHookProgram(program), dnsDomains: ["example.net"] });
    byDns.manage("a.example.net");
    await visit("a.example.net");
    await rm(folder, { recursive: true, force: true });
  });

  it("say why there is none", { timeout }, async () => {
    const cases: readonly [string, Partial<CertificateManagerOptions>, RegExp][] = [
      ["*.home.example.org", {}, /set --acme-dns-hook/],
      [
        "a.example.com",
        { dnsHook: dnsHookProgram("/nonexistent/hook"), dnsDomains: ["example.com"] },
        /Cannot set DNS record _acme-challenge.a.example.com by \/nonexistent\/hook/,
      ],
      [
        "b.example.com",
        { authorities: ["https://127.0.0.1:1/dir"] },
        /Cannot reach certificate authority https:\/\/127.0.0.1:1/,
      ],
      ["c.example.com", { authorityCaPem: undefined }, /Cannot reach certificate authority/],
      [
        "d.example.com",
        { authorities: ["https://127.0.0.1:1/dir", "https://127.0.0.1:2/dir"] },
        /authority https:\/\/127.0.0.1:1.*; Cannot reach certificate authority https:\/\/127.0.0.1:2/,
      ],
    ];
    for (const [name, options, why] of cases) {
      const manager = manage(options);
      manager.manage(name);
      await manager.settled(name);
      assert.equal(await manager.contextOf(name), undefined);
      assert.match(manager.errorOf(name) ?? "", why);
    }
    // The authority connects to this name, and doesn't find what it looks for.
    const lost = manage();
    lost.manage("lost.example.org");
    lost.challengeOf = () => undefined;
    await lost.settled("lost.example.org");
    assert.equal(await lost.contextOf("lost.example.org"), undefined);
    assert.match(
      lost.errorOf("lost.example.org") ?? "",
      /Cannot show control of lost.example.org: .*\((tls|connection|unauthorized)\)/,
    );
  });

  it(
    "come with another account where the authority has removed the one that was kept",
    { timeout },
    async () => {
      const store = new class extends MemoryCertificateStore {
        account: readonly [key: string, text: string] = ["", ""];
        override write(key: string, text: string): Promise<void> {
          if (key.startsWith("accounts/")) this.account = [key, text];
          return super.write(key, text);
        }
      }();
      const first = manage({ store });
      first.manage("one.example.org");
      await first.settled("one.example.org");
      const [key, text] = store.account;
      const removed = text.replace(/("url":"[^"]*)"/, '$10"');
      assert.notEqual(removed, text);
      await store.write(key, removed);
      const second = manage({ store });
      second.manage("two.example.org");
      await visit("two.example.org");
      assert.notEqual(store.account[1], removed);
      assert.equal(second.errorOf("two.example.org"), undefined);
    },
  );

  it("come from the next authority where the first one fails", { timeout }, async () => {
    const manager = manage({ authorities: ["https://127.0.0.1:1/dir", pebble.directory] });
    manager.manage("second.example.org");
    await visit("second.example.org");
    assert.equal(manager.errorOf("second.example.org"), undefined);
  });

  it("come from an authority that knows its customers", { timeout }, async () => {
    const macKey = Buffer.alloc(32, 7).toString("base64url");
    const strict = await startPebble({ tlsPort: port, externalAccounts: { "kid-1": macKey } });
    try {
      const options = { authorities: [strict.directory], authorityCaPem: strict.caPem };
      const stranger = manage(options);
      stranger.manage("eab.example.org");
      await stranger.settled("eab.example.org");
      assert.equal(await stranger.contextOf("eab.example.org"), undefined);
      assert.match(stranger.errorOf("eab.example.org") ?? "", /set --acme-eab-kid and --acme-eab-key/);
      const customer = manage({ ...options, external: { keyId: "kid-1", macKey } });
      customer.manage("eab.example.org");
      await customer.settled("eab.example.org");
      assert.notEqual(await customer.contextOf("eab.example.org"), undefined);
    } finally {
      await strict.stop();
    }
  });
});
