/**
 * Runs targets on mutated inputs. An input that goes a way which none before it went joins the corpus and is mutated in
 * its turn, so the corpus grows towards what the target knows.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { seeded } from "../support/seeded.ts";
import { below, cuts, mutate } from "./mutate.ts";
import { answerOf, pieces, signatureOf, type Target } from "./target.ts";

const FOLDER = join(dirname(fileURLToPath(import.meta.url)), "corpus");
/** Inputs that a target's corpus keeps, and how long each may be there. */
const KEPT_MAX = 60;
const STORED_MAX_BYTES = 1_024;
/** Ways that are followed; some targets repeat the input in their answers. */
const WAYS_MAX = 2_000;
/** Executions between looks at the clock. */
const BATCH = 200;
/** What all executions of a target may add to the process's memory. */
export const MEMORY_MAX_BYTES = 400 * 1024 * 1024;

/** How long a target is run: whatever comes first. */
export interface FuzzBudget {
  readonly seconds: number;
  readonly executions: number;
}

/** What came of a target. */
export interface FuzzReport {
  readonly name: string;
  readonly executions: number;
  /** Ways that inputs went. */
  readonly ways: number;
  readonly grownBytes: number;
  readonly corpus: readonly Bytes[];
}

/** A fault, with all that it takes to see it again. */
export class FuzzFault extends Error {
  constructor(
    target: Target,
    seed: number,
    input: Bytes,
    places: readonly number[],
    why: string,
    cause?: unknown,
  ) {
    const hex = Array.from(input, (byte) => byte.toString(16).padStart(2, "0")).join("");
    super(`${target.name} (seed ${seed}, cut at [${places}]): ${why}\ninput: ${hex}`, { cause });
  }
}

/** The stored corpus of a target. */
export function readCorpus(name: string): Bytes[] {
  let text: string;
  try {
    text = readFileSync(join(FOLDER, `${name}.txt`), "utf8");
  } catch {
    return [];
  }
  return text.split("\n").filter((line) => line !== "").map((line) =>
    new Uint8Array(Buffer.from(line, "base64"))
  );
}

/** Stores the corpus of a target: one input a line, in base64, in a fixed order. */
export function writeCorpus(name: string, inputs: readonly Bytes[]): void {
  mkdirSync(FOLDER, { recursive: true });
  const lines = inputs.filter((input) => input.length <= STORED_MAX_BYTES)
    .map((input) => Buffer.from(input).toString("base64"));
  const order = (line: string) => createHash("sha256").update(line).digest("hex");
  lines.sort((a, b) => a.length - b.length || order(a).localeCompare(order(b)));
  writeFileSync(join(FOLDER, `${name}.txt`), lines.slice(0, KEPT_MAX).join("\n") + "\n");
}

/** Runs one input, whole and cut at these places. Throws a {@link FuzzFault}; says which way it went. */
export function check(target: Target, seed: number, input: Bytes, places: readonly number[]): string {
  try {
    const whole = answerOf(target, pieces(input, []));
    if (target.whole !== true) {
      const cut = answerOf(target, pieces(input, places));
      if (target.cutsMatter !== true && cut !== whole) {
        throw new FuzzFault(target, seed, input, places, `whole "${whole}", cut "${cut}"`);
      }
    }
    return signatureOf(whole);
  } catch (error) {
    if (error instanceof FuzzFault) throw error;
    const why = error instanceof Error ? error.stack ?? error.message : String(error);
    throw new FuzzFault(target, seed, input, places, `it threw ${why}`, error);
  }
}

/**
 * Runs a target for its budget, from its seeds and its stored corpus on, or until `goOn`, which may ask how far it is,
 * returns false.
 */
export async function fuzz(
  target: Target,
  seed: number,
  budget: FuzzBudget,
  goOn: (report: () => FuzzReport) => boolean = () => true,
): Promise<FuzzReport> {
  const random = seeded(seed);
  const ways = new Map<string, Bytes>();
  const corpus: Bytes[] = [];
  const take = (input: Bytes, way: string) => {
    if (ways.has(way) || ways.size >= WAYS_MAX) return;
    ways.set(way, input);
    corpus.push(input);
  };
  let executions = 0;
  for (const input of [...target.seeds, ...readCorpus(target.name)]) {
    take(input, check(target, seed, input, cuts(input.length, random)));
    executions++;
  }
  const startBytes = process.memoryUsage().rss;
  const report = (): FuzzReport => {
    const grownBytes = Math.max(0, process.memoryUsage().rss - startBytes);
    return { name: target.name, executions, ways: ways.size, grownBytes, corpus };
  };
  const endMs = performance.now() + budget.seconds * 1000;
  while (executions < budget.executions && performance.now() < endMs && goOn(report)) {
    for (let left = Math.min(BATCH, budget.executions - executions); left > 0; left--) {
      // Half of the time from what was found last, which is the least known.
      const recent = Math.max(0, corpus.length - 16);
      const from = random() < 0.5
        ? recent + below(corpus.length - recent, random)
        : below(corpus.length, random);
      const input = mutate(corpus[from]!, corpus[below(corpus.length, random)]!, random);
      take(input, check(target, seed, input, cuts(input.length, random)));
      executions++;
    }
    // Lets go of what the target has deferred to a microtask.
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  const last = report();
  const { grownBytes } = last;
  if (grownBytes > MEMORY_MAX_BYTES) {
    throw new Error(
      `${target.name} (seed ${seed}): memory grew by ${grownBytes} bytes in ${executions} executions`,
    );
  }
  return last;
}
