/** The commands that manage a session master with thousands of agents: nothing of long answers is lost. */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { dayOf } from "../../src/calendar.ts";
import { DATABASE_FILE } from "../../src/cli/data_dir.ts";
import type { CliIo } from "../../src/cli/io.ts";
import { printEntries } from "../../src/cli/manage.ts";
import { openStore } from "../../src/master/store/sql_store.ts";
import { entry, report, someAgent } from "../conformance/store_suite.ts";
import { type Program, programStarter, startServe } from "./program.ts";

const AGENTS = 1_200;
const timeout = 60_000;
const start = programStarter();
const today = dayOf(Date.now());
const yesterday = dayOf(Date.now() - 24 * 3_600_000);

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "sallyport-fleet-"));
});
after(() => rm(folder, { recursive: true, force: true }));

/** A fleet in the database of a data folder. */
async function makeFleet(): Promise<void> {
  const store = await openStore(join(folder, DATABASE_FILE));
  const names = Array.from({ length: AGENTS }, (_, index) => `device-${String(index).padStart(4, "0")}`);
  for (const name of names) {
    const notes = "x".repeat(800);
    await store.addAgent(someAgent(name, { notes }), undefined, entry("agent.added", name));
  }
  const used = (name: string, day: string) => ({
    ...{ agent: `agent_${name}`, tenant: "default", day },
    ...{ bytesToAgent: 123_456_789, bytesToVisitor: 987_654_321, streams: 12, connectedMs: 86_400_000 },
  });
  const usage = [yesterday, today].flatMap((day) => names.map((name) => used(name, day)));
  await store.applyReport(report(1, { usage }), Date.now());
  await store.close();
}

describe("sallyport: managing thousands of agents", () => {
  it("prints a table of a month of them", () => {
    const days = Array.from({ length: 200_000 }, (_, index) => index);
    let lines = 0;
    const io = { out: () => void lines++ } as unknown as CliIo;
    printEntries({ io, json: false }, days, [["DAY", (day) => day]], "none");
    assert.equal(lines, days.length + 1);
  });

  it("lists, bills and imports them", { timeout }, async () => {
    await makeFleet();
    const { master, program } = await startServe(start, folder);
    const run = async (...args: string[]): Promise<Program> => {
      const run = start([...args, "--master", master, "--credential-file", join(folder, "admin.key")]);
      await run.ended;
      return run;
    };
    const [json, table, csv] = await Promise.all([
      run("agents", "list", "--json"),
      run("usage"),
      run("usage", "--csv", "--from", yesterday),
    ]);
    assert.equal(json!.stderr + table!.stderr + csv!.stderr, "");
    assert.equal(JSON.parse(json!.stdout).length, AGENTS);
    assert.equal(table!.stdout.match(/^\d/gm)?.length, 2 * AGENTS);
    const rows = csv!.stdout.split("\n");
    assert.match(rows[0]!, /^agent,name,tenant,day,bytes_to_agent,/);
    assert.equal(rows.filter((row) => row.startsWith("agent_device-")).length, 2 * AGENTS);
    assert.equal(rows.filter((row) => row.startsWith("agent,")).length, 1);
    const list = join(folder, "list.json");
    const agents = JSON.parse(json!.stdout).slice(0, 3);
    const moved = [
      { ...agents[0], hostnames: undefined },
      ...agents.slice(1).map((agent: { name: string }) => ({
        ...agent,
        name: `new-${agent.name}`,
        hostnames: [`new-${agent.name}.example.org`],
      })),
    ];
    await writeFile(list, JSON.stringify(moved));
    const imported = await run("agents", "import", list, "--json");
    assert.equal(await imported.ended, 2);
    assert.match(imported.stderr, /^device-0000: .*hostnames .*\nerror: Cannot import 1 of 3 agents; /m);
    const added = imported.stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
    assert.deepEqual(added.map(({ name }) => name), ["new-device-0001", "new-device-0002"]);
    assert.match(added[0].join, /^http:\/\/127\.0\.0\.1:\d+\/#[\w-]{16,}$/);
    const wrong = await run("usage", "--from", "soon");
    assert.match(wrong.stderr, /^error: .*: from must be a day such as /m);
    program.signal("SIGTERM");
    assert.equal(await program.ended, 0);
  });
});
