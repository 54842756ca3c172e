import assert from "node:assert/strict";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { afterEach, beforeEach, describe, it } from "node:test";
import { ADMIN_FILE, CERTIFICATE_FILE, DataDir, FERNET_FILE } from "../../src/cli/data_dir.ts";
import { Keys, makeAdminKey, makeFernetKey } from "../../src/cli/keys.ts";
import { makeCertificate } from "../../src/crypto/certificate.ts";
import { isFernetKey } from "../../src/crypto/fernet.ts";
import { SallyportError } from "../../src/errors.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "sallyport-test-"));
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

const modeOf = async (path: string) => (await stat(path)).mode & 0o777;
const skip = process.platform === "win32" ? "Windows has no permission bits" : false;

function refused(pattern: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof SallyportError && error.code === "config_invalid", String(error));
    assert.match(error.message, pattern);
    return true;
  };
}

describe("DataDir", () => {
  it("is made with its file, for the owner alone, and leaves nothing beside it", { skip }, async () => {
    const path = join(folder, "a", "data");
    const dir = new DataDir(path);
    const made = await dir.readOrMake(ADMIN_FILE, () => "key\n");
    assert.deepEqual(made, { path: join(path, ADMIN_FILE), content: "key\n", made: true });
    assert.deepEqual([await modeOf(path), await modeOf(made.path)], [0o700, 0o600]);
    assert.deepEqual(await readdir(path), [ADMIN_FILE]);
    assert.deepEqual(dir.warnings, []);
  });

  it("keeps what is there", async () => {
    await new DataDir(folder).readOrMake(ADMIN_FILE, () => "first");
    const again = await new DataDir(folder).readOrMake(ADMIN_FILE, () => "second");
    assert.deepEqual([again.content, again.made], ["first", false]);
    assert.equal(await new DataDir(folder).read(FERNET_FILE), undefined);
  });

  it("gives all who make a file at once the same one", async () => {
    const dirs = Array.from({ length: 8 }, () => new DataDir(folder));
    const files = await Promise.all(
      dirs.map((dir, index) => dir.readOrMake(ADMIN_FILE, () => `key ${index}`)),
    );
    assert.equal(new Set(files.map(({ content }) => content)).size, 1);
    assert.equal(files.filter(({ made }) => made).length, 1);
    assert.deepEqual(await readdir(folder), [ADMIN_FILE]);
  });

  it("narrows permissions that are too wide, and says so", { skip }, async () => {
    const path = join(folder, ADMIN_FILE);
    await writeFile(path, "key");
    await chmod(path, 0o644);
    await chmod(folder, 0o755);
    const dir = new DataDir(folder);
    await dir.readOrMake(ADMIN_FILE, () => "other");
    await dir.read(ADMIN_FILE);
    assert.deepEqual([await modeOf(folder), await modeOf(path)], [0o700, 0o600]);
    assert.equal(dir.warnings.length, 2);
    assert.match(
      dir.warnings[1] ?? "",
      /admin\.key could be accessed by others \(mode 0644\); it is 0600 now\.$/,
    );
  });

  it("leaves a folder with other things in it open", { skip }, async () => {
    await writeFile(join(folder, "README"), "");
    await chmod(folder, 0o755);
    const dir = new DataDir(folder);
    const { path } = await dir.readOrMake(ADMIN_FILE, () => "key");
    assert.deepEqual([await modeOf(folder), await modeOf(path)], [0o755, 0o600]);
  });

  it("warns about a link to an open file, and leaves that alone", { skip }, async () => {
    const target = join(folder, "mounted");
    await writeFile(target, "key");
    await chmod(target, 0o444);
    await symlink(target, join(folder, ADMIN_FILE));
    const dir = new DataDir(folder);
    assert.equal(await dir.read(ADMIN_FILE), "key");
    assert.equal(await modeOf(target), 0o444);
    assert.match(dir.warnings[0] ?? "", /links to a file that others can access \(mode 0444\)/);
  });

  it("says which path can't be used", async () => {
    const file = join(folder, "file");
    await writeFile(file, "");
    await assert.rejects(
      new DataDir(file).readOrMake(ADMIN_FILE, () => ""),
      refused(/Cannot use data folder .*file/),
    );
    await mkdir(join(folder, ADMIN_FILE));
    await assert.rejects(new DataDir(folder).read(ADMIN_FILE), refused(/admin\.key/));
  });
});

describe("Keys", () => {
  const config = () => ({ dataDir: folder, fernetKeys: undefined, adminKey: undefined });

  it("are made on the first start and found on the second", async () => {
    const keys = new Keys(config());
    const [fernet, admin] = [await keys.fernet(), await keys.admin()];
    assert.deepEqual([fernet.made, admin.made, fernet.value.size], [true, true, 1]);
    assert.match(admin.value, /^sallyport_admin_[\w-]{43}$/);
    assert.ok(isFernetKey((await readFile(join(folder, FERNET_FILE), "utf8")).trim()));
    const later = new Keys(config());
    const payload = new TextEncoder().encode("payload");
    assert.deepEqual(new Uint8Array((await later.fernet()).value.open(fernet.value.seal(payload))), payload);
    assert.equal((await later.admin()).value, admin.value);
  });

  it("come from the settings without a data folder", async () => {
    const dataDir = join(folder, "none");
    const keys = new Keys({
      dataDir,
      fernetKeys: [makeFernetKey(), makeFernetKey()],
      adminKey: makeAdminKey(),
    });
    assert.equal((await keys.fernet()).value.size, 2);
    assert.equal((await keys.admin()).from, "settings");
    await assert.rejects(stat(dataDir));
  });

  it("that are broken are refused with their place, never their text", async () => {
    await writeFile(join(folder, FERNET_FILE), "not-a-secret-key\n");
    await writeFile(join(folder, ADMIN_FILE), "\n");
    await assert.rejects(new Keys(config()).fernet(), (error) => {
      assert.ok(!String(error).includes("not-a-secret-key"));
      return refused(/fernet\.keys/)(error);
    });
    await assert.rejects(new Keys(config()).admin(), refused(/admin\.key: it must hold one key/));
  });

  it("have a certificate for any date, whatever the dates of the given one", async () => {
    const path = join(folder, CERTIFICATE_FILE);
    const find = () => new Keys(config()).certificate();
    const request = { commonName: "edge", names: ["edge.test"], validDays: 1, wallMs: Date.now() };
    const { certificatePem, keyPem } = await makeCertificate(request);
    await writeFile(path, certificatePem + keyPem);
    const [found, ...others] = await Promise.all([find(), find(), find()]);
    const undated = found.value.certificatePem;
    assert.deepEqual(others.map(({ value }) => value), [found.value, found.value]);
    const certificate = new X509Certificate(undated);
    assert.equal(Date.parse(certificate.validFrom), 0);
    assert.match(certificate.validTo, /9999/);
    assert.ok(certificate.checkPrivateKey(createPrivateKey(keyPem)));
    // It depends on the key alone.
    await writeFile(path, keyPem);
    assert.equal((await find()).value.certificatePem, undated);
    const other = await makeCertificate(request);
    await writeFile(path, other.keyPem + other.certificatePem);
    assert.notEqual((await find()).value.certificatePem, undated);
    await writeFile(path, certificatePem);
    await assert.rejects(find(), refused(/edge\.pem: it holds no private key/));
  });

  it("are never made for a token", async () => {
    await assert.rejects(
      new Keys(config()).existingFernet(),
      refused(/there are no Fernet keys in .*fernet\.keys/),
    );
    assert.deepEqual(await readdir(folder), []);
  });

  it("never start with a dash", () => {
    for (let index = 0; index < 500; index++) assert.ok(!makeFernetKey().startsWith("-"));
  });
});
