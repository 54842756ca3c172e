/**
 * Faults on real processes of both runtimes, under load, and a table of what became of each: `deno task chaos`.
 *
 * @module
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { checkKnown, checkNumber, readCommandLine } from "../support/command_line.ts";
import { type Fault, makeFaults } from "./faults.ts";
import { isBorne, malice } from "./malice/malice.ts";
import { soak } from "./soak.ts";
import { type RuntimeName, World } from "./world.ts";

const USAGE = `Inflicts faults on real processes under load, and prints what became of each.

  deno task chaos [options]             every fault on both runtimes, some ten minutes
  deno task chaos --quick               the short part, some two minutes
  deno task chaos --minutes N           round after round, half of the time on each runtime, with the memory after each
  deno task chaos --soak N              no faults: visits at a low rate for so many minutes, and the slope of the memory
  deno task chaos --malice [-- OPTION…] attacks on an edge with these options, and their effect on its other users; where
                                        that is more than twice the time after a second try, also what the same attack
                                        on another edge beside it does to them: the machine's part

  --only WORD          the faults or attacks with this word in their name
  --runtime deno|bun   one of them alone

It ends with 1 where a visit hung, a byte was wrong, something took too long to recover, didn't end with 0, or was
noticed by others.`;

const { values, positionals } = readCommandLine(USAGE, {
  quick: { type: "boolean", default: false },
  minutes: { type: "string", default: "0" },
  soak: { type: "string" },
  malice: { type: "boolean", default: false },
  only: { type: "string" },
  runtime: { type: "string", default: "both" },
}, ({ values: { minutes, soak, runtime, malice }, positionals }) => {
  checkNumber("minutes", minutes, 0);
  checkNumber("soak", soak, 0);
  checkKnown("--runtime", runtime, ["both", "deno", "bun"]);
  if (positionals.length > 0 && !malice) throw new Error(`Cannot parse "${positionals[0]}": it is no option`);
});
const runtimes: RuntimeName[] = values.runtime === "both" ? ["deno", "bun"] : [values.runtime as RuntimeName];
/** What each runtime gets of the time. */
const roundsMs = Number(values.minutes) * 60_000 / runtimes.length;
const WIDTHS = [6, 52, 10, 8, 8, 5, 6, 9, 14];
let failures = 0;

if (values.soak !== undefined) {
  for (const wrong of await soak(runtimes, Number(values.soak))) fail(wrong);
  process.exit(failures === 0 ? 0 : 1);
}
if (values.malice) {
  const cells = ["before", "during", "p99 ratio", "beside", "failed", "sessions", "MiB before, peak"];
  maliceRow(["on", "attack", ...cells, "processor"]);
  for (const runtime of runtimes) {
    for await (const suffered of malice({ runtime, only: values.only, edge: positionals })) {
      const { attack, before, during, beside, failed, sessions, startMib, peakMib, processor } = suffered;
      const times = ({ p50, p99 }: { p50: number; p99: number }) => `${p50.toFixed(1)} / ${p99.toFixed(1)}`;
      const ratio = (during.p99 / before.p99).toFixed(1);
      const memory = `${Math.round(startMib)}, ${Math.round(peakMib)}`;
      const processorUse = `${processor.before.toFixed(2)}, ${processor.during.toFixed(2)}`;
      maliceRow([
        runtime,
        attack,
        times(before),
        times(during),
        ratio,
        beside === undefined ? "" : times(beside),
        failed,
        sessions,
        memory,
        processorUse,
      ]);
      if (!isBorne(suffered)) fail(`${attack}: its neighbours notice`);
    }
  }
  process.exit(failures === 0 ? 0 : 1);
}
row(["on", "fault", "recovered", "served", "refused", "hung", "wrong", "longest", "MiB edge/agent"]);
for (const runtime of runtimes) await runOn(runtime);
console.log(failures === 0 ? "All faults were borne." : `${failures} faults were not borne.`);
process.exit(failures === 0 ? 0 : 1);

async function runOn(runtime: RuntimeName): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "sallyport-chaos-"));
  const world = new World(runtime, folder);
  const endMs = performance.now() + roundsMs;
  try {
    await world.start();
    do {
      for (const fault of makeFaults(values.quick)) {
        if (values.only === undefined || fault.name.includes(values.only)) await inflict(world, fault);
      }
    } while (performance.now() < endMs);
    for (const wrong of await world.stop()) fail(`${runtime}: ${wrong}`);
  } catch (error) {
    fail(`${runtime}: ${error instanceof Error ? error.message : error}`);
    for (const [part, program] of world.programs) console.log(`${part}: ${program.stderr.slice(-1_500)}`);
  } finally {
    await world.clear();
    await rm(folder, { recursive: true, force: true });
  }
}

/** A recovery that takes too long may be the machine's doing, and is tried once more. */
async function inflict(world: World, fault: Fault, again = false): Promise<void> {
  world.load();
  let recoveredMs = Infinity;
  try {
    await fault.run(world);
    recoveredMs = await world.recovered();
  } finally {
    const { served, refused, hung, wrong, longestMs } = await world.unload();
    const seconds = (ms: number) => ms === Infinity ? "never" : `${(ms / 1000).toFixed(1)} s`;
    row([
      ...[world.runtime, fault.name, seconds(recoveredMs), served, refused, hung, wrong, seconds(longestMs)],
      await world.memory(),
    ]);
    if (hung > 0) fail(`${fault.name}: ${hung} visits hung`);
    if (wrong > 0) fail(`${fault.name}: ${wrong} visits got wrong bytes`);
    if (recoveredMs > fault.recoveryMs && (again || recoveredMs === Infinity)) {
      fail(`${fault.name}: it took longer than ${seconds(fault.recoveryMs)}`);
    }
    const { told } = fault;
    if (told !== undefined) {
      const said = world.programs.get(told.part)!.seen(told.text, "stderr");
      await said.catch(() => fail(`${fault.name}: the ${told.part}'s log says nothing of it`));
    }
    for (const part of ["edge", "agent", "master"] as const) {
      if (/Internal error|Uncaught|error: Uncaught/.test(world.programs.get(part)!.stderr)) {
        fail(`${fault.name}: the ${part} logs a fault of its own`);
      }
    }
  }
  if (recoveredMs > fault.recoveryMs && !again) await inflict(world, fault, true);
}

function row(cells: readonly (string | number)[]): void {
  console.log(cells.map((cell, index) => String(cell).padEnd(WIDTHS[index]!)).join(" ").trimEnd());
}

function maliceRow(cells: readonly (string | number)[]): void {
  const widths = [6, 44, 14, 16, 9, 16, 6, 8, 16, 10];
  console.log(cells.map((cell, index) => String(cell).padEnd(widths[index]!)).join(" ").trimEnd());
}

function fail(why: string): void {
  failures++;
  console.log(`  FAILED: ${why}`);
}
