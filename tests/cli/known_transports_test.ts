import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { transportMemory } from "../../src/cli/known_transports.ts";
import { NETWORKS_REMEMBERED_MAX } from "../../src/agent/transport_choice.ts";

const PLACE = "edge.example.org:8443/192.0.2.0/24";

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "sallyport-transports-"));
});
after(() => rm(folder, { recursive: true, force: true }));

describe("transportMemory", () => {
  it("are kept by place, the last word counting, in a file for the owner alone", async () => {
    const dir = join(folder, "kept");
    const memory = transportMemory(dir);
    assert.equal(await memory.read(PLACE), undefined);
    await memory.write(PLACE, { transport: "curve", untilMs: 1_000_000 });
    await memory.write(`${PLACE}x`, { transport: "sealed", untilMs: 2_000_000 });
    await memory.write(PLACE, { transport: "snitun", untilMs: 3_000_000 });
    assert.deepEqual(await transportMemory(dir).read(PLACE), { transport: "snitun", untilMs: 3_000_000 });
    assert.deepEqual(await memory.read(`${PLACE}x`), { transport: "sealed", untilMs: 2_000_000 });
    assert.deepEqual(await readdir(dir), ["known_transports"]);
    assert.equal((await stat(join(dir, "known_transports"))).mode & 0o077, 0);
  });

  it("are bounded: the oldest goes", async () => {
    const dir = join(folder, "bounded");
    const memory = transportMemory(dir);
    for (let i = 0; i <= NETWORKS_REMEMBERED_MAX; i++) {
      await memory.write(`e:1/${i}`, { transport: "curve", untilMs: 1_000 });
    }
    const lines = (await readFile(join(dir, "known_transports"), "utf8")).trim().split("\n");
    assert.equal(lines.length, NETWORKS_REMEMBERED_MAX);
    assert.equal(await memory.read("e:1/0"), undefined);
    assert.notEqual(await memory.read(`e:1/${NETWORKS_REMEMBERED_MAX}`), undefined);
  });

  it("make nothing of lines that aren't theirs", async () => {
    const dir = join(folder, "odd");
    const memory = transportMemory(dir);
    await memory.write("e:1/n", { transport: "curve", untilMs: 5_000 });
    await writeFile(join(dir, "known_transports"), `\n${PLACE}\nword\n${PLACE}y curve\n`);
    assert.equal((await memory.read(`${PLACE}y`))!.untilMs > 0, false, "never counts");
    assert.equal(await memory.read(PLACE), undefined);
  });
});
