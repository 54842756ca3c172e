/** The part of `deno task chaos` that takes seconds, on the runtime of the tests: faults on real processes under load. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, describe, it } from "node:test";
import { makeFaults } from "./faults.ts";
import { World } from "./world.ts";

const timeout = 90_000;
const FAULTS = [
  "kill -9: edge",
  "kill -9: agent",
  "kill -9: endpoint",
  "the network cuts every connection",
  "the disks of edge, master and agent are full",
  "the agent's data folder vanishes, then the agent",
];
/** Machines of CI are busy: how much longer a recovery may take there. */
const SLACK = 5;

describe("under load", () => {
  const runtime = process.versions.bun === undefined ? "deno" : "bun";
  let world: World | undefined;
  let folder: string | undefined;
  after(async () => {
    await world?.clear();
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
  });

  for (const fault of makeFaults(true).filter(({ name }) => FAULTS.includes(name))) {
    it(`${fault.name}: visits are served again, none hangs, no byte is wrong`, { timeout }, async () => {
      if (world === undefined) {
        folder = await mkdtemp(join(tmpdir(), "sallyport-chaos-"));
        world = new World(runtime, folder);
        await world.start();
      }
      world.load();
      await fault.run(world);
      const recoveredMs = await world.recovered();
      const { hung, wrong } = await world.unload();
      assert.deepEqual({ hung, wrong }, { hung: 0, wrong: 0 });
      assert.ok(recoveredMs <= SLACK * fault.recoveryMs, `served again after ${recoveredMs} ms`);
    });
  }

  it("all end in order, with 0", { timeout }, async () => {
    assert.deepEqual(await world?.stop(), []);
  });
});
