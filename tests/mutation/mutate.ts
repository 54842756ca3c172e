/**
 * The mutation run: puts small faults into the source, one at a time, and lists those that no test notices.
 *
 *     deno task mutate [FILE OR FOLDER…] [--sample N] [--seed S] [--jobs N]
 *
 * Without a path the rooms of {@link ROOMS} are run. `--sample` takes so many mutants of each room at random (the same
 * for the same seed), since all of them take hours. Tests run under Bun, whose loader can replace a file as it is loaded.
 * Fails below 85 %, and where a survivor isn't listed in survivors.json with its reason.
 *
 * @module
 */
import { spawn } from "node:child_process";
import { readdir, readFile, stat } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { seeded } from "../support/seeded.ts";
import { type Fault, faultsOf } from "./mutants.ts";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const SURVIVORS = join(ROOT, "tests/mutation/survivors.json");
const PRELOAD = join(ROOT, "tests/mutation/preload.ts");
/** Share of the mutants that tests must notice. */
const KILLED_MIN = 0.85;

/**
 * Source folders and the tests that must notice their faults: the nearest to a file first, so that most die early. `last`
 * takes seconds and runs for faults that nothing else has noticed.
 */
const ROOMS: readonly {
  readonly name: string;
  readonly source: string;
  readonly tests: readonly string[];
  readonly last: readonly string[];
}[] = [
  {
    name: "mux",
    source: "src/protocol/mux",
    tests: ["tests/protocol/mux", "tests/transport/quic/session_test.ts"],
    last: ["tests/protocol/mux/sim_test.ts", "tests/conformance/transport_memory_test.ts"],
  },
  {
    name: "curve",
    source: "src/protocol/curve",
    tests: ["tests/protocol/curve", "tests/transport/curve/curve_test.ts"],
    last: ["tests/protocol/curve/congestion/vegas_test.ts", "tests/protocol/curve/transfer_test.ts"],
  },
  {
    name: "handshake",
    source: "src/protocol/handshake",
    tests: ["tests/protocol/handshake", "tests/transport/sealed/hostile_test.ts"],
    last: ["tests/conformance/transport_memory_test.ts"],
  },
  {
    name: "wire",
    source: "src/wire",
    tests: ["tests/wire", "tests/protocol/token"],
    last: ["tests/wire/hostname_test.ts", "tests/wire/tls/client_hello_test.ts"],
  },
  { name: "edge", source: "src/edge", tests: ["tests/edge"], last: [] },
];

interface Mutant extends Fault {
  readonly path: string;
  readonly tests: readonly string[];
  readonly last: readonly string[];
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    sample: { type: "string" },
    seed: { type: "string", default: "1" },
    jobs: { type: "string", default: "2" },
  },
});

/** Files below a path, or the file. */
async function filesOf(path: string, end: string): Promise<string[]> {
  if (!(await stat(join(ROOT, path))).isDirectory()) return [path];
  const all = await readdir(join(ROOT, path), { recursive: true });
  return all.filter((name) => name.endsWith(end)).map((name) => `${path}/${name.replaceAll("\\", "/")}`)
    .sort();
}

/** The tests of one source file: those with its name first, then its folder's, then the room's. */
function nearest(path: string, tests: readonly string[]): string[] {
  const words = path.replace(/\.ts$/, "").split("/").slice(2);
  const rank = (test: string): number => {
    const own = test.replace(/_test\.ts$/, "").split("/");
    const name = own.at(-1) === words.at(-1) ? 4 : 0;
    return -(name + own.filter((word) => words.includes(word)).length);
  };
  return [...tests].sort((a, b) => rank(a) - rank(b));
}

/** Runs tests with a mutant in place; true when they notice it. Tests that hang have noticed it, too. */
async function noticed({ path, from, to, text, tests, last }: Mutant, timeoutMs: number): Promise<boolean> {
  const mutant = JSON.stringify({ file: join(ROOT, path), from, to, text });
  const run = (files: readonly string[]): Promise<boolean> =>
    new Promise((resolve) => {
      const child = spawn("bun", [
        "test",
        "--bail=1",
        // A busy machine must not pass for a test that notices.
        "--timeout=120000",
        "--preload",
        PRELOAD,
        ...files.map((file) => `./${file}`),
      ], {
        cwd: ROOT,
        env: { ...process.env, MUTANT: mutant },
        stdio: "ignore",
      });
      const timer = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
      child.on("close", (code) => {
        clearTimeout(timer);
        resolve(code !== 0);
      });
    });
  const rest = tests.slice(3);
  for (const files of [tests.slice(0, 3), rest, last]) if (files.length > 0 && await run(files)) return true;
  return false;
}

const wanted = positionals.length === 0 ? ROOMS.map(({ source }) => source) : positionals;
const listed = JSON.parse(await readFile(SURVIVORS, "utf8")) as {
  where: string;
  what: string;
  reason: string;
}[];
const random = seeded(Number(values.seed));
const survivors: Mutant[] = [];
let total = 0;

for (const path of wanted) {
  const room = ROOMS.find(({ source }) => path === source || path.startsWith(`${source}/`));
  if (room === undefined) throw new Error(`${path} lies in no room of tests/mutation/mutate.ts`);
  const tests: string[] = [];
  for (const test of room.tests) {
    tests.push(...(await filesOf(test, "_test.ts")).filter((file) => !room.last.includes(file)));
  }
  let mutants: Mutant[] = [];
  for (const file of await filesOf(path, ".ts")) {
    const faults = faultsOf(await readFile(join(ROOT, file), "utf8"));
    mutants.push(...faults.map((fault) => {
      const near = nearest(file, tests);
      return { ...fault, path: file, tests: near, last: room.last };
    }));
  }
  const all = mutants.length;
  if (values.sample !== undefined) {
    const order = mutants.map((mutant) => ({ mutant, at: random() })).sort((a, b) => a.at - b.at);
    mutants = order.slice(0, Number(values.sample)).map(({ mutant }) => mutant);
  }
  const startMs = performance.now();
  const whole = { path, from: 0, to: 0, text: "", line: 0, what: "", tests, last: room.last };
  if (await noticed(whole, 600_000)) throw new Error(`The tests of ${path} fail without a fault`);
  const timeoutMs = 3 * (performance.now() - startMs) + 10_000;

  let next = 0;
  let alive = 0;
  const work = async (): Promise<void> => {
    for (let mutant = mutants[next++]; mutant !== undefined; mutant = mutants[next++]) {
      if (await noticed(mutant, timeoutMs)) continue;
      alive++;
      survivors.push(mutant);
      console.log(`  survives: ${mutant.path}:${mutant.line}: ${mutant.what}`);
    }
  };
  await Promise.all(Array.from({ length: Number(values.jobs) }, work));
  total += mutants.length;
  const killed = mutants.length - alive;
  const share = (100 * killed / Math.max(1, mutants.length)).toFixed(1);
  const minutes = ((performance.now() - startMs) / 60_000).toFixed(1);
  console.log(
    `${path}: ${killed} of ${mutants.length} killed (${share} %), of ${all} there are; ${minutes} min`,
  );
}

const known = (mutant: Mutant): boolean => {
  const where = relative(".", mutant.path).replaceAll("\\", "/");
  return listed.some((entry) => entry.where === where && entry.what === mutant.what);
};
const unknown = survivors.filter((mutant) => !known(mutant));
for (const { path, line, what } of unknown) console.log(`not listed: ${path}:${line}: ${what}`);
const share = 1 - survivors.length / Math.max(1, total);
console.log(`${total - survivors.length} of ${total} killed: ${(100 * share).toFixed(1)} %`);
process.exit(share < KILLED_MIN || unknown.length > 0 ? 1 : 0);
