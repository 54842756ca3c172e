/**
 * Runs several attempts, staggered, and keeps the first that succeeds (after RFC 8305, section 5).
 *
 * @module
 */
import { errorCode, errorMessage, SallyportError } from "../errors.ts";
import type { Clock, Timer } from "../runtime/port.ts";

/**
 * `--transport auto`: the next transport is tried if the previous one hasn't succeeded within this time (RFC 8305,
 * section 5).
 */
export const ATTEMPT_DELAY_MS = 250;
/**
 * `--transport auto`: one attempt at a time sends its token; one that receives nothing for this long yields to another
 * that is ready. By then a lost packet may have been retransmitted twice.
 */
export const TURN_PATIENCE_MS = 3_000;

/** The race as seen by one attempt. */
export interface Lane {
  /** Aborted when the attempt must give up. */
  readonly signal: AbortSignal;
  /** Resolves when it is this attempt's turn to send its token. Rejects if another attempt has succeeded. */
  turn(): Promise<void>;
  /** The attempt has succeeded: the others are aborted. */
  arrived(): void;
}

/** One of the attempts. */
export interface Entrant<T> {
  readonly name: string;
  /** Starts. Must reject and clean up soon after the lane's signal is aborted. */
  start(lane: Lane): Promise<T>;
}

/** Options of {@link race} besides the entrants. */
interface RaceOptions {
  readonly clock: Clock;
  /** Aborts all attempts; the race rejects with its reason. */
  readonly signal: AbortSignal;
  /** Called for each attempt that fails by itself. */
  failed?(name: string, error: unknown): void;
  /** Called for each attempt that is aborted because another one was first. */
  lost?(name: string): void;
}

/**
 * Starts the entrants in order, each {@link ATTEMPT_DELAY_MS} after the previous one or as soon as one has failed.
 * Attempts take turns: only one at a time may proceed from ready to completion, and one that makes no progress within
 * {@link TURN_PATIENCE_MS} is aborted when another one is ready.
 *
 * Resolves with the first one's value. Rejects if none succeeds: with a single entrant's own error, otherwise with one
 * that names them all.
 */
export function race<T>(entrants: readonly Entrant<T>[], options: RaceOptions): Promise<T> {
  return new Promise((resolve, reject) => new Race(entrants, options, resolve, reject).begin());
}

class Runner<T> {
  readonly entrant: Entrant<T>;
  readonly control = new AbortController();
  /** Set while it waits for its turn. */
  go: (() => void) | undefined;
  /** Whether it has had its turn. */
  had = false;
  error: unknown;
  done = false;

  constructor(entrant: Entrant<T>) {
    this.entrant = entrant;
  }
}

class Race<T> {
  readonly #options: RaceOptions;
  readonly #resolve: (value: T) => void;
  readonly #reject: (error: unknown) => void;
  readonly #runners: readonly Runner<T>[];
  readonly #giveUp = () => this.#end(this.#options.signal.reason);
  #started = 0;
  #startTimer: Timer | undefined;
  #holder: Runner<T> | undefined;
  #patienceTimer: Timer | undefined;
  /** Whether the holder's time is up: it is aborted as soon as another one is ready. */
  #impatient = false;
  #first: Runner<T> | undefined;
  #over = false;

  constructor(
    entrants: readonly Entrant<T>[],
    options: RaceOptions,
    resolve: (value: T) => void,
    reject: (error: unknown) => void,
  ) {
    this.#runners = entrants.map((entrant) => new Runner(entrant));
    this.#options = options;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  begin(): void {
    const { signal } = this.#options;
    if (signal.aborted) return this.#giveUp();
    signal.addEventListener("abort", this.#giveUp, { once: true });
    this.#startNext();
  }

  #startNext(): void {
    this.#startTimer?.cancel();
    const runner = this.#runners[this.#started];
    if (this.#over || this.#first !== undefined || runner === undefined) return;
    this.#started++;
    if (this.#started < this.#runners.length) {
      this.#startTimer = this.#options.clock.after(ATTEMPT_DELAY_MS, () => this.#startNext());
    }
    runner.entrant.start({
      signal: runner.control.signal,
      turn: () => this.#turn(runner),
      arrived: () => this.#arrived(runner),
    }).then((value) => this.#succeeded(runner, value), (error) => this.#failed(runner, error));
  }

  #turn(runner: Runner<T>): Promise<void> {
    return new Promise((resolve, reject) => {
      const { signal } = runner.control;
      if (signal.aborted) return reject(signal.reason);
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      runner.go = resolve;
      this.#nextTurn();
    });
  }

  /** Gives the turn to a waiting attempt, and takes it from one that has held it for too long. */
  #nextTurn(): void {
    const next = this.#runners.find((runner) => runner.go !== undefined && !runner.done);
    if (this.#over || this.#first !== undefined || next === undefined) return;
    if (this.#holder !== undefined) {
      if (this.#impatient) this.#holder.control.abort(tooSlow(this.#holder.entrant.name));
      return;
    }
    this.#holder = next;
    this.#impatient = false;
    this.#patienceTimer?.cancel();
    this.#patienceTimer = this.#options.clock.after(TURN_PATIENCE_MS, () => {
      this.#impatient = true;
      this.#nextTurn();
    });
    next.had = true;
    const { go } = next;
    next.go = undefined;
    go?.();
  }

  #arrived(runner: Runner<T>): void {
    if (this.#over || this.#first !== undefined || runner.control.signal.aborted) return;
    this.#first = runner;
    this.#stopTimers();
    for (const other of this.#runners.slice(0, this.#started)) {
      if (other === runner || other.done) continue;
      this.#options.lost?.(other.entrant.name);
      other.control.abort(
        new SallyportError("aborted", `Cannot continue: ${runner.entrant.name} was first`, { side: "local" }),
      );
    }
  }

  #succeeded(runner: Runner<T>, value: T): void {
    this.#arrived(runner);
    const { signal } = runner.control;
    if (signal.aborted) return this.#failed(runner, signal.reason);
    runner.done = true;
    if (this.#over) return;
    this.#close();
    this.#resolve(value);
  }

  #failed(runner: Runner<T>, error: unknown): void {
    runner.done = true;
    runner.error = error;
    if (this.#holder === runner) this.#holder = undefined;
    if (this.#over || (this.#first !== undefined && this.#first !== runner)) return;
    this.#options.failed?.(runner.entrant.name, error);
    if (this.#first === runner) return this.#end(error);
    if (this.#runners.every(({ done }) => done)) return this.#end(summary(this.#runners));
    this.#nextTurn();
    this.#startNext();
  }

  /** Ends the race with a failure, and aborts every remaining attempt. */
  #end(error: unknown): void {
    if (this.#over) return;
    this.#close();
    for (const runner of this.#runners) if (!runner.done) runner.control.abort(error);
    this.#reject(error);
  }

  #close(): void {
    this.#over = true;
    this.#stopTimers();
    this.#options.signal.removeEventListener("abort", this.#giveUp);
  }

  #stopTimers(): void {
    this.#startTimer?.cancel();
    this.#patienceTimer?.cancel();
  }
}

function tooSlow(name: string): SallyportError {
  const why = `${name} got no answer to its token in ${
    TURN_PATIENCE_MS / 1000
  } s, and another transport is ready`;
  return new SallyportError("deadline_exceeded", `Cannot open session: ${why}`, {
    side: "network",
    retryable: true,
  });
}

/** The most informative of several failures: one from an attempt that sent its token, if any. */
function summary(runners: readonly Runner<unknown>[]): unknown {
  if (runners.length === 1) return runners[0]!.error;
  const telling = runners.find(({ had }) => had) ?? runners[0]!;
  const { code, side } = telling.error instanceof SallyportError
    ? telling.error
    : { code: errorCode(telling.error), side: "local" as const };
  const all = runners.map(({ entrant, error }) => `${entrant.name}: ${errorMessage(error)}`).join("; ");
  return new SallyportError(code, `Cannot open session by any transport: ${all}`, {
    side,
    retryable: runners.some(({ error }) => !(error instanceof SallyportError) || error.retryable),
    cause: telling.error,
  });
}
