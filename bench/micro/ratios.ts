/**
 * Times of steps as multiples of a yardstick's, which is measured in turn with them: a slower or busier machine slows
 * both. Of many short slices the quickest counts, the one in which nothing else used the processor.
 *
 * @module
 */
import type { Step } from "./steps.ts";

/** Multiples of the yardstick by the name of the step. */
export type Ratios = Readonly<Record<string, number>>;

/** A step may take so much longer than the kept ratio. */
const MARGIN = 2;
const ROUNDS = 200;
/** Long enough for the clock, and short enough to come through between two turns of other processes. */
const SLICE_MS = 0.25;

/** Measures steps in turn with the yardstick, as often as it is asked: each time adds slices, so ratios only settle. */
export class RatioMeter {
  readonly #unit = new Measured(yardstick());
  readonly #steps: readonly Measured[];

  constructor(steps: readonly Step[]) {
    this.#steps = steps.map((step) => new Measured(step));
  }

  /** The amount of work is fixed, not the time: on a busy machine it takes longer. */
  measure(): Ratios {
    for (let round = 0; round < ROUNDS; round++) {
      this.#unit.slice();
      for (const step of this.#steps) step.slice();
    }
    return Object.fromEntries(
      this.#steps.map(({ step, leastMs }) => [step.name, leastMs / this.#unit.leastMs]),
    );
  }
}

/** A step, and the least time that it has taken. */
class Measured {
  readonly step: Step;
  /** Milliseconds of one thing. */
  leastMs = Infinity;
  #calls = 1;

  constructor(step: Step) {
    this.step = step;
  }

  /** Runs it for about {@link SLICE_MS}: more often once it is compiled. */
  slice(): void {
    const { run, per = 1 } = this.step;
    // The slices of the other steps have taken its code and data from the processor's caches.
    let sink = run();
    const start = performance.now();
    for (let i = 0; i < this.#calls; i++) sink ^= run();
    const elapsedMs = performance.now() - start;
    if (sink === Infinity) throw new Error("no step results in this");
    // A short slice says more about the clock and cold caches.
    if (elapsedMs < SLICE_MS / 2) this.#calls *= 2;
    else this.leastMs = Math.min(this.leastMs, elapsedMs / this.#calls / per);
  }
}

/** Steps that take more than {@link MARGIN} times what was kept, in words. */
export function slower(ratios: Ratios, kept: Ratios): string[] {
  return Object.entries(ratios).flatMap(([name, ratio]) => {
    const before = kept[name];
    if (before !== undefined && ratio <= before * MARGIN) return [];
    const was = before === undefined ? "isn't kept" : `was ${before.toPrecision(3)}`;
    const advice = "Make it faster, or keep it with bench:micro --write and say why";
    return [`${name}: ${ratio.toPrecision(3)} of the yardstick's time, ${was}. ${advice}`];
  });
}

/** Work of the kind that the steps do: it reads bytes, copies some, and makes objects. */
function yardstick(): Step {
  const source = new Uint8Array(256).map((_, at) => at * 167);
  const target = new Uint8Array(256);
  let kept: { readonly hash: number } = { hash: 0 };
  return {
    name: "yardstick",
    run() {
      let hash = kept.hash ^ 0x811c9dc5;
      for (let at = 0; at < source.length; at++) hash = Math.imul(hash ^ source[at]!, 0x01000193);
      target.set(source.subarray(0, 128), hash & 127);
      kept = { hash };
      return target[200]! ^ hash;
    },
  };
}
