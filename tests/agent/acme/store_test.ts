/** Where certificates are kept and come from, without an authority. */
import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import { type CertificateStore, MemoryCertificateStore } from "../../../src/agent/acme/certificate_store.ts";
import { CertificateManager, ORDER_RETRY_FIRST_MS } from "../../../src/agent/acme/certificate_manager.ts";
import { FileCertificateStore } from "../../../src/agent/acme/file_certificate_store.ts";
import { readCertificate } from "../../../src/agent/acme/x509.ts";
import {
  CERTIFICATE_FILES_CHECK_MS,
  fileSource,
  selfSignedSource,
} from "../../../src/agent/tls/certificate_source.ts";
import { makeCertificate } from "../../../src/crypto/certificate.ts";
import { SallyportError } from "../../../src/errors.ts";
import { createMemoryNetwork } from "../../../src/runtime/memory/memory.ts";
import { silentLogger } from "../../../src/telemetry/log.ts";

const timeout = 30_000;

/** What every store does. */
function storeSuite(
  name: string,
  make: () => Promise<{ store: CertificateStore; clean(): Promise<void> }>,
): void {
  describe(name, () => {
    it("gives what was written last, and nothing for what wasn't", { timeout }, async () => {
      const { store, clean } = await make();
      assert.equal(await store.read("certificates/a.example.org.pem"), undefined);
      await store.write("certificates/a.example.org.pem", "one");
      await store.write("certificates/a.example.org.pem", "two\n");
      await store.write("accounts/b.json", "three");
      assert.equal(await store.read("certificates/a.example.org.pem"), "two\n");
      assert.equal(await store.read("accounts/b.json"), "three");
      await Promise.all(
        Array.from({ length: 20 }, (_, i) => store.write("accounts/c.json", `${i}`.repeat(10_000))),
      );
      const last = await store.read("accounts/c.json") ?? "";
      assert.match(last, /^(\d\d?)\1{9999}$/, "one of them, whole");
      await clean();
    });
  });
}

storeSuite(
  "MemoryCertificateStore",
  () => Promise.resolve({ store: new MemoryCertificateStore(), clean: async () => {} }),
);
storeSuite("FileCertificateStore", async () => {
  const folder = await mkdtemp(join(tmpdir(), "sallyport-store-"));
  return {
    store: new FileCertificateStore(folder),
    clean: () => rm(folder, { recursive: true, force: true }),
  };
});

describe("FileCertificateStore: its folder", () => {
  it(
    "keeps others out, leaves nothing behind, and takes no path out of its folder",
    { timeout },
    async () => {
      const folder = await mkdtemp(join(tmpdir(), "sallyport-store-"));
      const store = new FileCertificateStore(join(folder, "new"));
      await store.write("accounts/a.json", "x");
      assert.deepEqual(await readdir(join(folder, "new", "accounts")), ["a.json"]);
      if (process.platform !== "win32") {
        const path = join(folder, "new", "accounts", "a.json");
        assert.equal((await stat(path)).mode & 0o777, 0o600);
        assert.equal((await stat(join(folder, "new"))).mode & 0o777, 0o700);
      }
      for (const key of ["../a", "a/../../b", "/a", "a//b", ".a", "A", "a/b/c/d", ""]) {
        await assert.rejects(async () => await store.read(key), TypeError, key);
      }
      await writeFile(join(folder, "file"), "");
      const blocked = new FileCertificateStore(join(folder, "file"));
      await assert.rejects(
        blocked.write("a", "x"),
        (error) => error instanceof SallyportError && error.code === "io_failed",
      );
      await rm(folder, { recursive: true, force: true });
    },
  );
});

describe("fileSource: a certificate from files", () => {
  it("is read again when it has changed; a wrong one leaves the old one", { timeout }, async () => {
    const network = createMemoryNetwork();
    const folder = await mkdtemp(join(tmpdir(), "sallyport-pair-"));
    const [certificateFile, keyFile] = [join(folder, "cert.pem"), join(folder, "key.pem")];
    let seconds = 1_700_000_000;
    const write = async (name: string, certificate?: string) => {
      const made = await makeCertificate({
        commonName: name,
        names: [name],
        validDays: 9,
        wallMs: Date.now(),
      });
      await writeFile(certificateFile, certificate ?? made.certificatePem);
      await writeFile(keyFile, made.keyPem);
      // Whatever the file system's clock makes of two writes in a row.
      await utimes(certificateFile, ++seconds, seconds);
    };
    await write("a.example.org");
    const source = fileSource({ certificateFile, keyFile }, { clock: network.clock, log: silentLogger });
    const first = await source.contextOf("a.example.org");
    assert.deepEqual(source.facts()[0]?.names, ["a.example.org"]);
    await write("b.example.org");
    assert.equal(await source.contextOf("a.example.org"), first, "not looked at for every visitor");
    await network.advance(CERTIFICATE_FILES_CHECK_MS);
    const second = await source.contextOf("b.example.org");
    assert.notEqual(second, first);
    await write("c.example.org", "no certificate");
    await network.advance(CERTIFICATE_FILES_CHECK_MS);
    assert.equal(await source.contextOf("b.example.org"), second);
    assert.match(
      source.facts()[0]?.error ?? "",
      /^Cannot read certificate from .*cert\.pem and .*: (?!Cannot).*; the old one stays$/,
    );
    await rm(folder, { recursive: true, force: true });
  });
});

describe("selfSignedSource: a certificate that signs itself", () => {
  it("is kept, and made anew for other names", { timeout }, async () => {
    const { clock } = createMemoryNetwork();
    const store = new MemoryCertificateStore();
    await selfSignedSource(["a.localhost"], { clock, store }).contextOf("a.localhost");
    const kept = await store.read("self-signed/a.localhost.pem") ?? "";
    assert.deepEqual((await readCertificate(kept)).names, ["a.localhost"]);
    await selfSignedSource(["a.localhost"], { clock, store }).contextOf("a.localhost");
    assert.equal(await store.read("self-signed/a.localhost.pem"), kept);
    await selfSignedSource(["a.localhost", "*.b.localhost"], { clock, store }).contextOf("a.localhost");
    const anew = await readCertificate(await store.read("self-signed/a.localhost.pem") ?? "");
    assert.deepEqual(anew.names, ["a.localhost", "*.b.localhost"]);
  });
});

describe("CertificateManager: a certificate that can't be obtained", () => {
  it("is asked for again, after twice as long each time", { timeout }, async () => {
    const delays: number[] = [];
    const waiting: (() => void)[] = [];
    const clock = {
      nowMs: () => 0,
      wallMs: () => Date.now(),
      soon: queueMicrotask,
      after(delayMs: number, run: () => void) {
        if (delayMs >= ORDER_RETRY_FIRST_MS / 2) {
          delays.push(delayMs);
          waiting.push(run);
        }
        return { cancel() {} };
      },
    };
    const manager = new CertificateManager({
      ...{ clock, store: new MemoryCertificateStore(), random: () => 0.5 },
      authorities: ["https://127.0.0.1:1/dir"],
    });
    manager.manage("a.example.org");
    for (let i = 0; i < 4; i++) {
      await manager.settled("a.example.org");
      waiting.at(-1)?.();
    }
    await manager.settled("a.example.org");
    assert.deepEqual(delays.slice(0, 4), [1, 2, 4, 8].map((factor) => factor * ORDER_RETRY_FIRST_MS));
    assert.match(manager.errorOf("a.example.org") ?? "", /Cannot reach certificate authority/);
    manager.close();
  });
});

describe("CertificateManager: names that can't be reached yet", () => {
  it("are ordered once they can, and a released one never", { timeout }, async () => {
    const { clock } = createMemoryNetwork();
    const reachable = Promise.withResolvers<void>();
    const manager = new CertificateManager({
      ...{ clock, store: new MemoryCertificateStore(), reachable: () => reachable.promise },
      authorities: ["http://no-authority.test"],
    });
    for (const name of ["a.test", "b.test"]) manager.manage(name);
    // Longer than reading the store takes.
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(manager.errorOf("a.test"), undefined);
    const released = manager.settled("b.test");
    manager.release("b.test");
    reachable.resolve();
    await manager.settled("a.test");
    assert.match(manager.errorOf("a.test") ?? "", /^Cannot reach certificate authority/);
    await released;
    assert.deepEqual(manager.certificates().map(({ name }) => name), ["a.test"]);
    manager.close();
  });

  it("don't keep it from closing", { timeout }, async () => {
    const { clock } = createMemoryNetwork();
    const manager = new CertificateManager({
      ...{ clock, store: new MemoryCertificateStore(), reachable: () => new Promise(() => {}) },
    });
    manager.manage("a.test");
    const settled = manager.settled("a.test");
    manager.close();
    await settled;
  });
});
