/**
 * File descriptors: a process has a limited number, and every connection takes one. When they run out, the runtimes
 * fail in ways that can't be handled (Deno's HTTP server ends the process, Bun's listeners spin), so accepting stops
 * before that.
 *
 * @module
 */
import { readdirSync, readFileSync } from "node:fs";
import { SallyportError } from "../errors.ts";
import type { ConnectOptions, Descriptors, DescriptorState } from "./port.ts";
import { readPermitted } from "./deno/permissions.ts";
import { dialledText } from "./shared.ts";

/** File descriptors reserved from accepted connections for everything else: one in this many, */
const RESERVE_SHARE = 16;
/** and at least these. */
const RESERVE_MIN = 16;
/** Counting costs a system call per descriptor, so during a shortage it is repeated at most this often. */
const RECOUNT_MS = 50;

/** The system interface, replaced by tests. */
export interface DescriptorSystem {
  /** Maximum number of open descriptors; undefined if the system doesn't report it. */
  limit(): number | undefined;
  /** Number of open descriptors. */
  open(): number;
  nowMs(): number;
}

/** Linux reports both under /proc; elsewhere the limit is unknown, and only the system's own error shows it. */
export const procSystem: DescriptorSystem = {
  limit() {
    // Deno would prompt on a terminal for an optional feature.
    if (!readPermitted("/proc/self/limits")) return undefined;
    try {
      const [, soft] = /^Max open files +(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8")) ?? [];
      return soft === undefined ? undefined : Number(soft);
    } catch {
      return undefined;
    }
  },
  // Reading the directory opens a descriptor, which is listed too.
  open: () => readdirSync("/proc/self/fd").length - 1,
  nowMs: () => performance.now(),
};

/** Decides whether one more connection fits. */
export class DescriptorGuard implements Descriptors {
  readonly limit: number | undefined;
  acceptPauses = 0;
  readonly #system: DescriptorSystem;
  /** Descriptors that accepted connections must leave free. */
  readonly #reserve: number;
  /** The last count plus every connection since; connections closed since then are subtracted at the next count. */
  #taken = 0;
  #countedMs = -Infinity;
  #paused = false;
  #watcher: (state: DescriptorState) => void = () => {};

  constructor(system: DescriptorSystem = procSystem) {
    this.#system = system;
    this.limit = system.limit();
    this.#reserve = Math.max(RESERVE_MIN, Math.floor((this.limit ?? 0) / RESERVE_SHARE));
    // Counted at the first connection.
    this.#taken = this.limit ?? 0;
  }

  watch(watcher: (state: DescriptorState) => void): void {
    this.#watcher = watcher;
  }

  get connectionsMax(): number | undefined {
    return this.limit === undefined ? undefined : Math.max(0, this.limit - this.#reserve);
  }

  /** Connections that a listener may take from the system before it asks here: none if the limit is unknown. */
  get takenAheadMax(): number {
    return this.limit === undefined ? 0 : Math.floor(this.#reserve / 2);
  }

  open(): number | undefined {
    return this.limit === undefined ? undefined : this.#count();
  }

  /** Whether an accepted connection leaves room for another. False pauses accepting until a later call returns true. */
  accepted(): boolean {
    const fits = this.#take(this.#reserve);
    if (fits) this.#resume();
    else this.#pause();
    return fits;
  }

  /** Whether there is room for a descriptor that its connection can do without; it is then taken. */
  spare(): boolean {
    return this.#take(this.#reserve);
  }

  /** The system failed to accept for lack of descriptors or memory. */
  exhausted(): void {
    this.#pause();
  }

  /** Throws if no descriptor is left for an outgoing connection. Those may use the reserve. */
  assertDialable(options: ConnectOptions): void {
    if (!this.#take(Math.floor(this.#reserve / 4))) throw this.dialError(options);
  }

  /** The error of a dial that lacks descriptors. */
  dialError(options: ConnectOptions, cause?: unknown): SallyportError {
    const limit = this.limit === undefined ? "" : ` of ${this.limit}`;
    const why =
      `Cannot connect to ${dialledText(options)}: this process has no file descriptors left${limit}; ` +
      "raise its limit (ulimit -n, or LimitNOFILE= of a systemd unit)";
    return new SallyportError("limit_exceeded", why, { side: "local", retryable: true, cause });
  }

  #take(reserve: number): boolean {
    if (this.limit === undefined) return true;
    const most = this.limit - reserve;
    if (this.#taken >= most) {
      const nowMs = this.#system.nowMs();
      if (nowMs - this.#countedMs < RECOUNT_MS) return false;
      this.#countedMs = nowMs;
      this.#taken = this.#count();
      if (this.#taken >= most) return false;
    }
    this.#taken++;
    return true;
  }

  /** Counting itself takes a descriptor: if none is available, all are open. */
  #count(): number {
    try {
      return this.#system.open();
    } catch {
      return this.limit!;
    }
  }

  #pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.acceptPauses++;
    this.#tell();
  }

  #resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#tell();
  }

  #tell(): void {
    this.#watcher({ paused: this.#paused, open: this.#taken, limit: this.limit });
  }
}
