/**
 * The shutdown of a running command: orderly at the first signal, immediate at the second.
 *
 * @module
 */
import process from "node:process";
import { errorMessage, InternalError } from "../errors.ts";
import type { CliIo, StopSignal } from "./io.ts";
import { ServiceManager } from "./systemd.ts";

/** Parts of a running program, stopped in the reverse order of their start. */
export class Lifecycle {
  readonly #io: CliIo;
  readonly #manager: ServiceManager;
  readonly #whenStarted: (() => void)[] = [];
  readonly #parts: { readonly name: string; readonly stop: () => Promise<void> | void }[] = [];
  #stopped = false;
  #signal: StopSignal | undefined;

  constructor(io: CliIo, manager: ServiceManager = new ServiceManager(io)) {
    this.#io = io;
    this.#manager = manager;
  }

  /** Registers a started part, and how to stop it. */
  add(name: string, stop: () => Promise<void> | void): void {
    this.#parts.push({ name, stop });
  }

  /** Registers a callback for when everything has started. */
  whenStarted(callback: () => void): void {
    this.#whenStarted.push(callback);
  }

  /**
   * Calls `start`, then runs until a signal arrives or `over` settles (its failure is the program's). Stops every part
   * in any case, including those already started when `start` fails.
   *
   * @returns the exit code: 0.
   */
  async run(start: () => Promise<{ readonly over?: Promise<unknown> } | void>): Promise<number> {
    let signalled = () => {};
    const signal = new Promise<void>((resolve) => signalled = resolve);
    let count = 0;
    const undo = this.#io.onStop((signal) => {
      count++;
      this.#signal ??= signal;
      if (count === 1) {
        this.#io.err("Stopping; the same signal again stops at once");
        signalled();
      } else this.#io.exit(1);
    });
    // A terminal hang-up or a reload that the command doesn't use must not end the process.
    const undoReload = this.#io.onReload(() => {});
    try {
      const over = start().then((started) => {
        this.#manager.ready();
        for (const callback of this.#whenStarted) callback();
        return started?.over ?? new Promise<never>(() => {});
      });
      await Promise.race([signal, over]);
    } finally {
      this.#manager.stopping();
      await this.stop();
      undo();
      undoReload();
    }
    return 0;
  }

  /** Stops every part, the last one first; a failure to stop one doesn't prevent stopping the others. */
  async stop(): Promise<void> {
    this.#stopped = true;
    while (this.#parts.length > 0) {
      const part = this.#parts.pop();
      try {
        await part?.stop();
      } catch (error) {
        this.#io.err(`Cannot stop ${part?.name} cleanly: ${errorMessage(error)}`);
      }
    }
  }

  /** The signal that stops the program; undefined if it stops by itself. */
  get signal(): StopSignal | undefined {
    return this.#signal;
  }

  /** Whether stopping has begun. */
  get stopped(): boolean {
    return this.#stopped;
  }
}

/** Passes errors that would have ended the process to `report`; the returned function undoes it. */
export function watchProcess(report: (error: InternalError) => void): () => void {
  const caught = (thrown: unknown) => report(new InternalError("process", thrown));
  process.on("uncaughtException", caught);
  process.on("unhandledRejection", caught);
  return () => {
    process.off("uncaughtException", caught);
    process.off("unhandledRejection", caught);
  };
}
