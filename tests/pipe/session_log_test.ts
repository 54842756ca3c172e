import assert from "node:assert/strict";
import { appendFile, mkdtemp, rm, stat, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { afterEach, beforeEach, describe, it } from "node:test";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { systemRandom } from "../../src/crypto/random.ts";
import { errorCode } from "../../src/errors.ts";
import { SessionLog } from "../../src/pipe/session_log.ts";

const random = (into: Bytes): void => systemRandom.fill(into);
const id = (seed: number): Bytes => new Uint8Array(32).fill(seed);

describe("SessionLog", () => {
  let folder = "";
  let path = "";
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "sallyport-"));
    path = join(folder, "key.sessions");
  });
  afterEach(() => rm(folder, { recursive: true }));

  it("takes a session once, and remembers it over restarts", () => {
    const first = new SessionLog(path, random);
    assert.equal(first.claim(id(1)), true);
    assert.equal(first.claim(id(2)), true);
    assert.equal(first.claim(id(1)), false);
    first.close();
    const second = new SessionLog(path, random);
    assert.equal(second.size, 2);
    assert.equal(second.claim(id(2)), false);
    assert.equal(second.claim(id(3)), true);
    second.close();
  });

  it("knows what another process claimed meanwhile", () => {
    const one = new SessionLog(path, random);
    const other = new SessionLog(path, random);
    assert.equal(one.claim(id(1)), true);
    assert.equal(other.claim(id(1)), false);
    one.close();
    other.close();
  });

  it("gives a session to one alone of two that append at once", async () => {
    const log = new SessionLog(path, (into) => into.fill(7));
    const record = new Uint8Array(32).fill(5, 0, 16).fill(9, 16);
    // As if the other's record had come between the look and the append.
    const racing = new SessionLog(path, (into) => into.fill(8));
    await appendFile(path, record);
    assert.equal(racing.claim(id(5)), false);
    assert.equal(log.claim(id(5)), false);
    assert.equal((await stat(path)).size, 32);
    log.close();
    racing.close();
  });

  it("is for its owner's eyes only", { skip: process.platform === "win32" }, async () => {
    new SessionLog(path, random).close();
    assert.equal((await stat(path)).mode & 0o777, 0o600);
  });

  it("refuses all rather than forget one", () => {
    const log = new SessionLog(path, random, 2);
    log.claim(id(1));
    log.claim(id(2));
    assert.throws(() => log.claim(id(3)), (error) => errorCode(error) === "limit_exceeded");
    assert.equal(log.claim(id(1)), false);
    log.close();
  });

  it("refuses a file that isn't whole, or shrinks", async () => {
    const log = new SessionLog(path, random);
    log.claim(id(1));
    await truncate(path, 0);
    assert.throws(() => log.claim(id(2)), (error) => errorCode(error) === "config_invalid");
    log.close();
    await appendFile(path, "x");
    assert.throws(() => new SessionLog(path, random), (error) => errorCode(error) === "config_invalid");
    assert.throws(() => new SessionLog(join(folder, "no", "where"), random), /Cannot open/);
  });
});
