import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { it } from "node:test";
import { SocketPairs } from "../../../src/agent/http/socket_pair.ts";

const skip = process.platform === "win32" && "pipes have no folder there";

it("a pair of sockets is made in the first folder that can be written", { skip }, async () => {
  const folder = await mkdtemp(join(tmpdir(), "sallyport-pair-"));
  try {
    // In a container or under Deno's permission set, the system's folder for temporary files can't be.
    const pairs = new SocketPairs(["/dev/null/none", join(folder, "data")]);
    const [near, far] = await pairs.make();
    const heard = new Promise((resolve) => far.once("data", (part) => resolve(String(part))));
    near.write("across");
    assert.equal(await heard, "across");
    near.destroy();
    far.destroy();
    await pairs.close();
    assert.deepEqual(await readdir(join(folder, "data")), []);
    await assert.rejects(new SocketPairs(["/dev/null/none"]).make(), /ENOTDIR|Not a directory/i);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
