import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { afterEach, beforeEach, describe, it } from "node:test";
import { promisify } from "node:util";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { errorCode, type SallyportError } from "../../src/errors.ts";
import { fileSink, type FileSinkOptions, type PipeSink } from "../../src/pipe/sink.ts";
import { openSource } from "../../src/pipe/source.ts";
import type { Clock } from "../../src/runtime/port.ts";
import { concat } from "./bench.ts";

const clock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(delayMs, run) {
    const timer = setTimeout(run, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
  soon: (run) => void setTimeout(run),
};
const body = (size: number): Bytes => Uint8Array.from({ length: size }, (_, at) => at * 31 & 255);
const windows = process.platform === "win32";
let folder = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "sallyport-"));
});
afterEach(() => rm(folder, { recursive: true }));

/** A sink with what it reported. */
async function sinkTo(name: string, options: Partial<FileSinkOptions> = {}) {
  const heard = { stored: 0, errors: [] as SallyportError[] };
  const sink: PipeSink = await fileSink(
    { path: join(folder, name), force: false, clock, suffix: "test", ...options },
    { stored: (bytes) => void (heard.stored += bytes), failed: (error) => void heard.errors.push(error) },
  );
  return { sink, heard };
}

function readAll(path: string, size = 1000): Promise<Bytes> {
  return new Promise((resolve, reject) => {
    const chunks: Bytes[] = [];
    const buffer = new Uint8Array(size);
    openSource(path, clock).then((source) => {
      const next = (): void =>
        source.read(buffer, (error, count) => {
          if (error) return reject(error);
          if (count > 0) {
            chunks.push(buffer.slice(0, count));
            return next();
          }
          source.close();
          resolve(concat(chunks));
        });
      next();
    }, reject);
  });
}

describe("fileSink", () => {
  it("keeps what came from others, whatever the umask", { skip: windows }, async () => {
    const before = process.umask(0);
    try {
      const { sink } = await sinkTo("private");
      sink.write(body(10));
      await sink.finish();
    } finally {
      process.umask(before);
    }
    assert.equal((await stat(join(folder, "private"))).mode & 0o777, 0o600);
  });

  it("gives a file its name when it is whole, and reports every byte", async () => {
    const { sink, heard } = await sinkTo("out");
    assert.deepEqual(await readdir(folder), []);
    const sent = body(3_000_000);
    for (let at = 0; at < sent.length; at += 100_000) sink.write(sent.subarray(at, at + 100_000));
    assert.deepEqual((await readdir(folder)).filter((name) => name === "out"), []);
    await sink.finish();
    assert.equal(heard.stored, 3_000_000);
    assert.deepEqual(await readdir(folder), ["out"]);
    assert.ok((await readFile(join(folder, "out"))).equals(sent));
  });

  it("makes an empty file of an empty transfer", async () => {
    const { sink } = await sinkTo("out");
    await sink.finish();
    assert.equal((await stat(join(folder, "out"))).size, 0);
  });

  it("leaves nothing behind of a transfer that failed", async () => {
    const { sink } = await sinkTo("out");
    sink.write(body(2_500_000));
    await sink.discard();
    await sink.discard();
    assert.deepEqual(await readdir(folder), []);
    const unused = await sinkTo("other");
    await unused.sink.discard();
    assert.deepEqual(await readdir(folder), []);
  });

  it("keeps a file that is there, unless it may be replaced, and then until the new one is whole", async () => {
    await writeFile(join(folder, "out"), "old");
    await assert.rejects(sinkTo("out"), (error) => errorCode(error) === "config_invalid");
    const failed = await sinkTo("out", { force: true });
    failed.sink.write(body(10));
    await failed.sink.discard();
    assert.equal(await readFile(join(folder, "out"), "utf8"), "old");
    const { sink } = await sinkTo("out", { force: true });
    sink.write(body(10));
    await sink.finish();
    assert.deepEqual(new Uint8Array(await readFile(join(folder, "out"))), body(10));
    assert.deepEqual(await readdir(folder), ["out"]);
  });

  it("doesn't replace a file that came meanwhile", async () => {
    const { sink } = await sinkTo("out");
    sink.write(body(10));
    await writeFile(join(folder, "out"), "new");
    await assert.rejects(sink.finish(), /Cannot write .*meanwhile/);
    assert.equal(await readFile(join(folder, "out"), "utf8"), "new");
    assert.deepEqual(await readdir(folder), ["out"]);
  });

  it("replaces what a link points to, not the link", { skip: windows }, async () => {
    await writeFile(join(folder, "real"), "old");
    await symlink("real", join(folder, "link"));
    const { sink } = await sinkTo("link", { force: true });
    sink.write(body(10));
    await sink.finish();
    assert.deepEqual(new Uint8Array(await readFile(join(folder, "real"))), body(10));
    assert.equal((await readdir(folder)).length, 2);
  });

  it("says early what can't be written", async () => {
    await mkdir(join(folder, "sub"));
    await assert.rejects(sinkTo("sub"), /it is a folder/);
    await assert.rejects(sinkTo("none/out"), /Cannot write/);
    await writeFile(join(folder, "file"), "");
    await assert.rejects(sinkTo("file/out"), /Cannot write/);
  });

  it("reports a failure while writing, once", { skip: windows || process.getuid?.() === 0 }, async () => {
    await chmod(folder, 0o500);
    const { sink, heard } = await sinkTo("out");
    sink.write(body(10));
    await assert.rejects(sink.finish(), /Cannot write/);
    assert.equal(heard.errors.length, 1);
    await chmod(folder, 0o700);
  });

  it("reports a full device", { skip: windows }, async () => {
    const full = await stat("/dev/full").catch(() => undefined);
    if (full === undefined) return;
    const { sink, heard } = await sinkTo("out", { path: "/dev/full" });
    sink.write(body(10));
    await assert.rejects(sink.finish(), /Cannot write \/dev\/full/);
    assert.equal(heard.errors.length, 1);
    sink.write(body(10));
    await sink.discard();
  });
});

describe("openSource", () => {
  it("reads a file and knows its size", async () => {
    await writeFile(join(folder, "in"), body(10_000));
    const source = await openSource(join(folder, "in"), clock);
    assert.equal(source.sizeBytes, 10_000);
    source.close();
    source.close();
    assert.deepEqual(await readAll(join(folder, "in")), body(10_000));
  });

  it("says what can't be read", async () => {
    await assert.rejects(openSource(join(folder, "none"), clock), /Cannot read .*none/);
    await assert.rejects(openSource(folder, clock), /it is a folder/);
  });

  it("a FIFO carries bytes from a sink to a source", { skip: windows }, async () => {
    const path = join(folder, "fifo");
    await promisify(execFile)("mkfifo", [path]);
    const reading = readAll(path, 4096);
    const { sink, heard } = await sinkTo("fifo");
    sink.write(body(300_000));
    await sink.finish();
    assert.ok(Buffer.from(await reading).equals(body(300_000)));
    assert.equal(heard.stored, 300_000);
    assert.deepEqual(await readdir(folder), ["fifo"]);
  });
});
