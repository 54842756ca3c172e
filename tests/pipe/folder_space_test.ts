import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, unlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import type { SallyportError } from "../../src/errors.ts";
import { FolderSpace } from "../../src/pipe/folder_space.ts";
import { fileSink, type PipeSink } from "../../src/pipe/sink.ts";
import type { Clock } from "../../src/runtime/port.ts";

const clock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(delayMs, run) {
    const timer = setTimeout(run, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
  soon: (run) => void setTimeout(run),
};
/** What each file counts for, besides its bytes. */
const FILE = 4096;
let folder = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "sallyport-"));
});
afterEach(() => rm(folder, { recursive: true }));

interface Heard {
  readonly sink: PipeSink;
  readonly errors: SallyportError[];
}

async function begin(space: FolderSpace, mark: string): Promise<Heard> {
  const errors: SallyportError[] = [];
  const host = { stored() {}, failed: (error: SallyportError) => void errors.push(error) };
  const sink = await space.sink(
    mark,
    host,
    () => fileSink({ path: join(folder, `x-${mark}`), force: false, clock, suffix: "part" }, host),
  );
  return { sink, errors };
}

const full = { code: "limit_exceeded", side: "local" };

describe("FolderSpace", () => {
  it("is taken by what lies there, each file for its size and 4 KiB", async () => {
    await writeFile(join(folder, "old"), new Uint8Array(10_000));
    const room = 10_000 + FILE + FILE;
    await assert.rejects(begin(new FolderSpace(folder, room - 1), "a"), full);
    const { sink, errors } = await begin(new FolderSpace(folder, room + 100), "a");
    sink.write(new Uint8Array(100));
    await sink.finish();
    assert.deepEqual(errors, []);
    assert.deepEqual((await readdir(folder)).sort(), ["old", "x-a"]);
  });

  it("ends a transfer that is too much, once, without a byte of it written, and its file goes", async () => {
    const { sink, errors } = await begin(new FolderSpace(folder, FILE + 1000), "a");
    sink.write(new Uint8Array(1000));
    sink.write(new Uint8Array(1));
    assert.equal(errors.length, 0, "never from within a call");
    sink.write(new Uint8Array(1));
    await Promise.resolve();
    assert.deepEqual(errors.map(({ code }) => code), ["limit_exceeded"]);
    await assert.rejects(sink.finish(), full);
    await sink.discard();
    assert.deepEqual(await readdir(folder), []);
  });

  it("is shared by all transfers under way, and given back by one that fails", async () => {
    const space = new FolderSpace(folder, 2 * FILE + 1000);
    const [one, two] = await Promise.all([begin(space, "a"), begin(space, "b")]);
    await assert.rejects(begin(space, "c"), full);
    one.sink.write(new Uint8Array(600));
    two.sink.write(new Uint8Array(401));
    await Promise.resolve();
    assert.equal(two.errors.length, 1);
    await two.sink.discard();
    one.sink.write(new Uint8Array(400));
    const third = await begin(space, "c");
    third.sink.write(new Uint8Array(1));
    await Promise.resolve();
    assert.deepEqual([one.errors.length, third.errors.length], [0, 1]);
    await one.sink.finish();
    await third.sink.discard();
    assert.deepEqual(await readdir(folder), ["x-a"]);
  });

  it("counts what was received while it looked, and no file twice", async () => {
    const space = new FolderSpace(folder, 3 * FILE + 300);
    const first = await begin(space, "a");
    first.sink.write(new Uint8Array(100));
    const [, second] = await Promise.all([first.sink.finish(), begin(space, "b")]);
    second.sink.write(new Uint8Array(100));
    await second.sink.finish();
    const third = await begin(space, "c");
    third.sink.write(new Uint8Array(100));
    await third.sink.finish();
    assert.deepEqual([first, second, third].map(({ errors }) => errors.length), [0, 0, 0]);
    await assert.rejects(begin(space, "d"), full);
  });

  it("is there again when somebody takes files out", async () => {
    const space = new FolderSpace(folder, FILE + 100);
    const first = await begin(space, "a");
    first.sink.write(new Uint8Array(100));
    await first.sink.finish();
    await assert.rejects(begin(space, "b"), full);
    await unlink(join(folder, "x-a"));
    const second = await begin(space, "b");
    second.sink.write(new Uint8Array(100));
    await second.sink.finish();
    assert.deepEqual(await readdir(folder), ["x-b"]);
  });

  it("isn't taken by a sink that couldn't be opened, nor given in a folder that is gone", async () => {
    const space = new FolderSpace(folder, FILE);
    const host = { stored() {}, failed() {} };
    await assert.rejects(space.sink("a", host, () => Promise.reject(new Error("no"))), /^Error: no$/);
    await (await begin(space, "b")).sink.discard();
    await rm(folder, { recursive: true });
    await assert.rejects(begin(space, "c"), { code: "ENOENT" });
    folder = await mkdtemp(join(tmpdir(), "sallyport-"));
  });
});
