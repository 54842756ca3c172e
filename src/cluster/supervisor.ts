/**
 * The parent of a machine's workers: it starts them, restarts those that die, replaces them one by one for an upgrade, and
 * holds what they share: the directory, the cluster's secret, the ports (docs/protocols/cluster.md, Workers).
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { errorMessage, SallyportError } from "../errors.ts";
import type { Address, Listener, Runtime, Timer } from "../runtime/port.ts";
import type { Logger } from "../telemetry/log.ts";
import { ControlConnection, type ControlMethods } from "./control.ts";
import { createMemoryDirectory, DirectoryStore } from "./memory_directory.ts";
import { directoryMethods, tellChanges } from "./remote_directory.ts";

/** A worker must have connected and listen by then, or it counts as dead. */
export const WORKER_START_MS = 30_000;
/** First and longest pause before a worker that died is started again; the pause doubles while it keeps dying. */
export const WORKER_RESTART_FIRST_MS = 200;
export const WORKER_RESTART_MAX_MS = 10_000;
/** A worker that lived this long did not die of its start: the next pause is the first one again. */
export const WORKER_SETTLED_MS = 10_000;
/** Keys that the parent remembers for its workers; the oldest are forgotten beyond it. */
const USED_KEYS_MAX = 200_000;
/** A worker that does not end by itself when its drain time is over is killed after this. */
export const WORKER_KILL_MS = 5_000;

/** Where a worker listens, by kind: visitors, agents, sealed, curve, quic. */
export type WorkerPorts = Readonly<Record<string, readonly Address[]>>;

/** What a worker is told at its start. */
export interface WorkerAssignment {
  /** 0 and on; worker 0 alone has the UDP ports. */
  readonly index: number;
  /** The parent's socket, and the folder for the worker's own. */
  readonly controlPath: string;
  readonly folder: string;
  /** What links between nodes prove, in hexadecimal. */
  readonly secret: string;
  /** Names this run of the worker: the node's id. */
  readonly node: string;
  /** When the parent began, in Unix seconds: since then it knows which keys were used. */
  readonly startedAtS: number;
  /** Where the first worker came to listen, as it told: the others use the same ports. */
  readonly listening: WorkerPorts | undefined;
}

/** How a worker is to stop. */
export interface DrainRequest {
  /** How long its streams may go on, in milliseconds. */
  readonly graceMs: number;
  /** Other workers take its agents over. */
  readonly successor: boolean;
}

/** How an upgrade goes on. */
export type UpgradeProgress =
  | { readonly kind: "begun"; readonly workers: number }
  /** A new worker serves in the place of an old one; with the versions of both. */
  | { readonly kind: "serves"; readonly worker: number; readonly before: string; readonly now: string }
  /** All new workers serve. */
  | { readonly kind: "done" }
  /** The old workers have ended. */
  | { readonly kind: "ended" }
  /** A new worker did not start: the old ones that are left go on. */
  | { readonly kind: "failed"; readonly worker: number; readonly reason: string };

/** A worker's process. */
export interface WorkerProcess {
  /** Resolves when it has ended, with its exit code. */
  readonly ended: Promise<number | undefined>;
  /** Ends it at once. */
  kill(): void;
}

/** What {@link Supervisor} is made of. */
interface SupervisorOptions {
  readonly runtime: Runtime;
  readonly log: Logger;
  /** How many workers. */
  readonly count: number;
  /** A folder with mode 0700 for sockets. */
  readonly folder: string;
  /** How long a worker's streams may go on when it is replaced or stopped, in milliseconds. */
  readonly drainMs: number;
  /** What else workers may call. */
  methods?(control: ControlConnection): ControlMethods;
  /** Starts a worker's process. */
  spawn(assignment: WorkerAssignment): WorkerProcess;
}

/** What a worker says of itself. */
interface WorkerState {
  readonly index: number;
  readonly node: string;
  readonly ready: boolean;
  readonly draining: boolean;
}

/** What a worker says first. */
export interface WorkerHello {
  readonly node: string;
  readonly secret: string;
  /** The version of the program that it runs. */
  readonly version?: string;
}

interface Worker {
  readonly index: number;
  readonly node: string;
  readonly process: WorkerProcess;
  readonly startedMs: number;
  readonly ready: PromiseWithResolvers<void>;
  control: ControlConnection | undefined;
  isReady: boolean;
  draining: boolean;
  /** It is to take the place of a worker that still serves. */
  replacing: boolean;
  version: string;
}

/** See the module. */
export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #secret = randomBytes(32).toString("hex");
  readonly #store = new DirectoryStore();
  readonly #workers = new Set<Worker>();
  /** Keys of tokens that workers have let in, until their tokens expire. */
  readonly #keys = new Map<string, number>();
  readonly #startedAtS: number;
  readonly #upgradeListeners = new Set<(progress: UpgradeProgress) => void>();
  readonly #restarts = new Map<number, Timer>();
  readonly #pauses = new Map<number, number>();
  #listening: WorkerAssignment["listening"];
  #listener: Listener | undefined;
  #upgrading: Promise<void> | undefined;
  #stopping = false;

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#startedAtS = Math.floor(options.runtime.clock.wallMs() / 1000);
  }

  /** Where the workers listen, by kind, as the first one told. */
  get listening(): WorkerPorts {
    return this.#listening ?? {};
  }

  /** The workers, those included that drain. */
  get workers(): readonly WorkerState[] {
    return [...this.#workers].map(({ index, node, isReady, draining }) => ({
      index,
      node,
      ready: isReady,
      draining,
    }));
  }

  /** Every place has a worker that accepts. */
  get ready(): boolean {
    const serving = [...this.#workers].filter(({ isReady, draining }) => isReady && !draining);
    return new Set(serving.map(({ index }) => index)).size === this.#options.count;
  }

  /** Starts all workers. Rejects where the first one cannot start: its output says why. */
  async start(): Promise<void> {
    const { runtime, count } = this.#options;
    this.#listener = await runtime.listenUnix({
      path: this.#controlPath,
      accept: (conn) => {
        const directory = createMemoryDirectory({ clock: runtime.clock, store: this.#store });
        const control: ControlConnection = new ControlConnection(conn, runtime.clock, {
          ...directoryMethods(directory),
          hello: (said) => this.#hello(control, said as WorkerHello),
          key_first: (use) => this.#keyFirst(use as readonly [fingerprint: string, validUntilS: number]),
          listening: (said) => this.#listens(control, said as WorkerPorts),
        });
        tellChanges(directory, control);
        control.add(this.#options.methods?.(control) ?? {});
      },
    });
    await this.#launch(0).ready.promise;
    await Promise.all(Array.from({ length: count - 1 }, (_, index) => this.#launch(index + 1).ready.promise));
  }

  /**
   * Replaces every worker, one after the other: the new one accepts before the old one stops to. Streams of the old ones go
   * on for the drain time. Resolves when all new ones serve.
   */
  upgrade(): Promise<void> {
    return this.#upgrading ??= this.#replaceAll().finally(() => this.#upgrading = undefined);
  }

  /** Calls `listener` as an upgrade goes on, until the returned function is called. */
  watchUpgrade(listener: (progress: UpgradeProgress) => void): () => void {
    this.#upgradeListeners.add(listener);
    return () => void this.#upgradeListeners.delete(listener);
  }

  /** Asks every worker that is there; those that do not answer are left out. */
  async ask<Result>(method: string): Promise<readonly Result[]> {
    const asked = [...this.#workers].map(({ control }) =>
      control?.call<Result>(method).catch(() => undefined) ?? undefined
    );
    return (await Promise.all(asked)).filter((answer) => answer !== undefined) as Result[];
  }

  /** Ends all workers: their streams may go on for `drainMs`. */
  async stop(drainMs: number = this.#options.drainMs): Promise<void> {
    this.#stopping = true;
    for (const timer of this.#restarts.values()) timer.cancel();
    await Promise.all(
      [...this.#workers].map((worker) => this.#retire(worker, { graceMs: drainMs, successor: false })),
    );
    this.#listener?.close();
  }

  get #controlPath(): string {
    return `${this.#options.folder}/parent.sock`;
  }

  #launch(index: number, replacing = false): Worker {
    const { runtime, folder, spawn, log } = this.#options;
    const node = randomBytes(16).toString("hex");
    const process = spawn({
      index,
      node,
      folder,
      controlPath: this.#controlPath,
      secret: this.#secret,
      listening: this.#listening,
      startedAtS: this.#startedAtS,
    });
    const worker: Worker = {
      index,
      node,
      process,
      startedMs: runtime.clock.nowMs(),
      ready: Promise.withResolvers(),
      control: undefined,
      isReady: false,
      draining: false,
      replacing,
      version: "",
    };
    // Nobody may be waiting for a restarted one.
    worker.ready.promise.catch(() => {});
    this.#workers.add(worker);
    const late = runtime.clock.after(WORKER_START_MS, () => {
      log.error({ worker: index }, `worker did not start in ${WORKER_START_MS / 1000} s`);
      process.kill();
    });
    worker.ready.promise.then(() => late.cancel(), () => late.cancel());
    void process.ended.then((code) => this.#ended(worker, code));
    return worker;
  }

  #ended(worker: Worker, code: number | undefined): void {
    const { clock } = this.#options.runtime;
    this.#workers.delete(worker);
    this.#store.nodes.delete(worker.node);
    for (const watcher of this.#store.watchers) watcher({ kind: "node_left", node: worker.node });
    const why = code === undefined ? "was killed" : `ended with exit code ${code}`;
    worker.ready.reject(
      new SallyportError(
        "io_failed",
        `Cannot start worker ${worker.index}: it ${why}; its output says more`,
        {
          side: "config",
        },
      ),
    );
    // One that was to replace another leaves that one in its place.
    if (this.#stopping || worker.draining || (worker.replacing && !worker.isReady)) return;
    const settled = clock.nowMs() - worker.startedMs >= WORKER_SETTLED_MS;
    const pauseMs = settled
      ? WORKER_RESTART_FIRST_MS
      : this.#pauses.get(worker.index) ?? WORKER_RESTART_FIRST_MS;
    this.#pauses.set(worker.index, Math.min(WORKER_RESTART_MAX_MS, pauseMs * 2));
    this.#options.log.error(
      { worker: worker.index, next_attempt_seconds: pauseMs / 1000 },
      `worker ${why}; it is started again`,
    );
    // Only what served before is brought back: the first start fails as a whole.
    if (!worker.isReady && this.#listening === undefined) return;
    this.#restarts.set(worker.index, clock.after(pauseMs, () => void this.#launch(worker.index)));
  }

  #hello(
    control: ControlConnection,
    { node, secret, version = "unknown version" }: WorkerHello,
  ): true {
    const worker = [...this.#workers].find((known) => known.node === node);
    if (worker === undefined || secret !== this.#secret) {
      throw new SallyportError("access_denied", "Cannot join: this is no worker of this process", {
        side: "peer",
      });
    }
    worker.control = control;
    worker.version = version;
    return true;
  }

  #listens(control: ControlConnection, listening: WorkerPorts): true {
    const worker = [...this.#workers].find((known) => known.control === control);
    if (worker === undefined) {
      throw new SallyportError("access_denied", "Cannot join: say hello first", { side: "peer" });
    }
    this.#listening ??= listening;
    worker.isReady = true;
    worker.ready.resolve();
    return true;
  }

  /** Whether no worker has used a key before. */
  #keyFirst([fingerprint, validUntilS]: readonly [string, number]): boolean {
    if (this.#keys.has(fingerprint)) return false;
    if (this.#keys.size >= USED_KEYS_MAX) {
      const nowS = this.#options.runtime.clock.wallMs() / 1000;
      for (const [key, untilS] of this.#keys) {
        if (untilS < nowS || this.#keys.size >= USED_KEYS_MAX) this.#keys.delete(key);
      }
    }
    this.#keys.set(fingerprint, validUntilS);
    return true;
  }

  async #replaceAll(): Promise<void> {
    const { log } = this.#options;
    const old = [...this.#workers].filter(({ draining }) => !draining).sort((a, b) => a.index - b.index);
    const tell = (progress: UpgradeProgress) => {
      for (const listener of this.#upgradeListeners) listener(progress);
    };
    log.info({ workers: old.length }, "replacing the workers");
    tell({ kind: "begun", workers: old.length });
    const ended: Promise<void>[] = [];
    for (const worker of old) {
      const next = this.#launch(worker.index, true);
      try {
        await next.ready.promise;
      } catch (error) {
        // The old ones go on: an upgrade that does not start takes nothing away.
        const reason = errorMessage(error);
        log.error({ worker: worker.index }, `Cannot upgrade: ${reason}`);
        tell({ kind: "failed", worker: worker.index, reason });
        throw error;
      }
      next.replacing = false;
      tell({ kind: "serves", worker: worker.index, before: worker.version, now: next.version });
      // Its streams go on while the next one is replaced.
      ended.push(this.#retire(worker, { graceMs: this.#options.drainMs, successor: true }));
    }
    log.info({ workers: old.length }, "the new workers serve; the old ones let their streams finish");
    tell({ kind: "done" });
    void Promise.all(ended).then(() => tell({ kind: "ended" }));
  }

  /** Lets a worker drain, and sees to it that it ends. */
  async #retire(worker: Worker, request: DrainRequest): Promise<void> {
    const { clock } = this.#options.runtime;
    worker.draining = true;
    if (worker.control === undefined) worker.process.kill();
    else worker.control.call("drain", request).catch(() => {});
    const kill = clock.after(request.graceMs + WORKER_KILL_MS, () => worker.process.kill());
    await worker.process.ended;
    kill.cancel();
  }
}
