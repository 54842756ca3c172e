/**
 * A child process that reports by JSON lines on its stdout and ends when its stdin does, so that none outlives the tests.
 *
 * @module
 */

import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import process from "node:process";
import { createInterface } from "node:readline";

/** One line of a child's stdout. */
export type ChildEvent = Readonly<Record<string, unknown>>;

interface Waiter {
  readonly matches: (event: ChildEvent) => boolean;
  readonly resolve: (event: ChildEvent) => void;
  readonly reject: (error: Error) => void;
}

/** What {@link LineChild.start} takes. */
export interface ChildOptions {
  readonly command: string;
  readonly args: readonly string[];
  /** Added to this process's own environment. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

/** A running child. Lines of its stdout that aren't JSON are kept as `{ text }`. */
export class LineChild {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #events: ChildEvent[] = [];
  readonly #waiters = new Set<Waiter>();
  readonly #name: string;
  readonly #exited: Promise<void>;
  #stderr = "";
  #over = false;

  private constructor(options: ChildOptions) {
    this.#name = [options.command, ...options.args].join(" ");
    this.#child = spawn(options.command, [...options.args], {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    // A child that is gone makes writing to it fail; its exit is reported below.
    this.#child.stdin.on("error", () => {});
    this.#child.stderr.on("data", (chunk) => this.#stderr = (this.#stderr + String(chunk)).slice(-8192));
    createInterface({ input: this.#child.stdout }).on("line", (line) => this.#take(line));
    this.#exited = new Promise((resolve) => {
      const over = (why: string): void => {
        this.#over = true;
        for (const waiter of this.#waiters) waiter.reject(this.#failure(why));
        this.#waiters.clear();
        resolve();
      };
      this.#child.on("error", (error) => over(error.message));
      this.#child.on("close", (code, signal) => over(`it ended with ${code ?? signal}`));
    });
  }

  /** Starts a child; nothing is awaited. */
  static start(options: ChildOptions): LineChild {
    return new LineChild(options);
  }

  /** The process's id. */
  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** What it wrote to stderr, the last 8 KiB. */
  get stderr(): string {
    return this.#stderr;
  }

  /**
   * The first event that matches, among those that came and haven't been taken and those to come; it is taken by this
   * call. Rejects when the child ends first, or after `timeoutMs`.
   */
  next(matches: (event: ChildEvent) => boolean, timeoutMs = 30_000): Promise<ChildEvent> {
    const index = this.#events.findIndex(matches);
    if (index >= 0) return Promise.resolve(this.#events.splice(index, 1)[0]!);
    if (this.#over) return Promise.reject(this.#failure("it has ended"));
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => waiter.reject(this.#failure(`nothing arrived in ${timeoutMs} ms`)),
        timeoutMs,
      );
      const waiter: Waiter = {
        matches,
        resolve: (event) => (this.#waiters.delete(waiter), clearTimeout(timer), resolve(event)),
        reject: (error) => (this.#waiters.delete(waiter), clearTimeout(timer), reject(error)),
      };
      this.#waiters.add(waiter);
    });
  }

  /** The next event whose `event` member is `name`, and whose `id` or `hostname` is `about` where given. */
  event(name: string, about?: string, timeoutMs?: number): Promise<ChildEvent> {
    return this.next(
      (event) =>
        event.event === name && (about === undefined || event.id === about || event.hostname === about),
      timeoutMs,
    );
  }

  /** Writes a line to its stdin. */
  send(line: string): void {
    this.#child.stdin.write(line + "\n");
  }

  /** Ends its stdin. */
  endInput(): void {
    this.#child.stdin.end();
  }

  /** Ends its stdin, asks it to end by `signal`, and kills it after `graceMs`. Resolves when it is gone. */
  async stop(signal: "SIGTERM" | "SIGINT" = "SIGTERM", graceMs = 10_000): Promise<void> {
    if (!this.#over) {
      this.#child.stdin.end();
      this.#child.kill(signal);
      const timer = setTimeout(() => this.#child.kill("SIGKILL"), graceMs);
      await this.#exited;
      clearTimeout(timer);
    }
  }

  #take(line: string): void {
    let event: ChildEvent;
    try {
      event = JSON.parse(line) as ChildEvent;
    } catch {
      event = { text: line };
    }
    for (const waiter of this.#waiters) {
      if (waiter.matches(event)) return waiter.resolve(event);
    }
    this.#events.push(event);
  }

  #failure(why: string): Error {
    return new Error(`Cannot go on with "${this.#name}": ${why}\n${this.#stderr}`);
  }
}
