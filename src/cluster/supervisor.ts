/**
 * The parent of a machine's workers: it starts them, restarts those that die, replaces them one by one for an upgrade,
 * and holds what they share: the directory, the cluster's secret, the ports (docs/protocols/cluster.md, Workers).
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { errorCode, errorMessage, SallyportError } from "../errors.ts";
import type { Address, Listener, Runtime, Timer } from "../runtime/port.ts";
import type { Logger } from "../telemetry/log.ts";
import { ControlConnection, type ControlMethods } from "./control.ts";
import { createMemoryDirectory, DirectoryStore } from "./memory_directory.ts";
import { directoryMethods, tellChanges } from "./remote_directory.ts";
import type { PortMember } from "../transport/port_group.ts";

/**
 * Deadline for a worker to connect and listen before it counts as hung. One that fails ends by itself; killing one that
 * is only slow, on a machine with too much to do, would make more work for that machine.
 */
export const WORKER_START_MS = 120_000;
/** First and longest delay before a dead worker is restarted; the delay doubles while it keeps dying. */
export const WORKER_RESTART_FIRST_MS = 200;
export const WORKER_RESTART_MAX_MS = 10_000;
/** A worker that ran this long did not fail at startup: the next delay is the first one again. */
export const WORKER_SETTLED_MS = 10_000;
/** Maximum number of keys that the parent remembers for its workers; beyond it the oldest are forgotten. */
const USED_KEYS_MAX = 200_000;
/** A worker still running this long after its drain time is killed. */
export const WORKER_KILL_MS = 5_000;

/** A worker's listening addresses, by kind: visitors, agents, sealed, curve, quic. */
export type WorkerPorts = Readonly<Record<string, readonly Address[]>>;

/** A worker's assignment, sent at its start. */
export interface WorkerAssignment {
  /** 0 and up; only worker 0 has the ports for QUIC. */
  readonly index: number;
  /** Unique among the running workers, including those that are draining. */
  readonly number: number;
  /** The parent's socket, and the folder for the worker's own. */
  readonly controlPath: string;
  readonly folder: string;
  /** The secret that links between nodes prove, in hexadecimal. */
  readonly secret: string;
  /** Identifies this run of the worker: the node's id. */
  readonly node: string;
  /** Start of the parent, in Unix seconds: it knows which keys were used since then. */
  readonly startedAtS: number;
  /** The first worker's listening addresses, as it reported them: the others use the same ports. */
  readonly listening: WorkerPorts | undefined;
}

/** A worker's entry into the group of a UDP port. */
export interface PortJoin {
  readonly name: string;
  readonly relayPort: number;
}

/** The members of a UDP port's group. */
export interface PortMembers {
  readonly name: string;
  readonly members: readonly PortMember[];
}

/** A request to stop a worker. */
export interface DrainRequest {
  /** How long its streams may continue, in milliseconds. */
  readonly graceMs: number;
  /** Whether other workers take over its agents. */
  readonly successor: boolean;
}

/** Progress of an upgrade. */
export type UpgradeProgress =
  | { readonly kind: "begun"; readonly workers: number }
  /** A new worker has replaced an old one; with the versions of both. */
  | { readonly kind: "serves"; readonly worker: number; readonly before: string; readonly now: string }
  /** All new workers are serving. */
  | { readonly kind: "done" }
  /** The old workers have ended. */
  | { readonly kind: "ended" }
  /** A new worker did not start: the remaining old ones keep running. */
  | { readonly kind: "failed"; readonly worker: number; readonly reason: string };

/** A worker's process. */
export interface WorkerProcess {
  /** Resolves when it has ended, with its exit code. */
  readonly ended: Promise<number | undefined>;
  /** Ends it at once. */
  kill(): void;
}

/** Options of {@link Supervisor}. */
interface SupervisorOptions {
  readonly runtime: Runtime;
  readonly log: Logger;
  /** Number of workers. */
  readonly count: number;
  /** A folder with mode 0700 for sockets. */
  readonly folder: string;
  /** How long a worker's streams may continue when it is replaced or stopped, in milliseconds. */
  readonly drainMs: number;
  /** Further methods that workers may call. */
  methods?(control: ControlConnection): ControlMethods;
  /** Starts a worker's process. */
  spawn(assignment: WorkerAssignment): WorkerProcess;
}

/** A worker's report of itself. */
interface WorkerState {
  readonly index: number;
  readonly node: string;
  readonly ready: boolean;
  readonly draining: boolean;
}

/** A worker's first message. */
export interface WorkerHello {
  readonly node: string;
  readonly secret: string;
  /** The version of the program it runs. */
  readonly version?: string;
}

interface Worker {
  readonly index: number;
  readonly number: number;
  /** Where it receives passed datagrams, by the name of the UDP port. */
  readonly relayPorts: Map<string, number>;
  readonly node: string;
  readonly process: WorkerProcess;
  readonly startedMs: number;
  readonly ready: PromiseWithResolvers<void>;
  control: ControlConnection | undefined;
  isReady: boolean;
  draining: boolean;
  /** It is to replace a worker that is still serving. */
  replacing: boolean;
  version: string;
}

/** Starts, watches and replaces workers. */
export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #secret = randomBytes(32).toString("hex");
  readonly #store = new DirectoryStore();
  readonly #workers = new Set<Worker>();
  /** Keys of tokens that workers have accepted, until their tokens expire. */
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

  /** The workers' listening addresses, by kind, as reported by the first one. */
  get listening(): WorkerPorts {
    return this.#listening ?? {};
  }

  /** The workers, including those that are draining. */
  get workers(): readonly WorkerState[] {
    return [...this.#workers].map(({ index, node, isReady, draining }) => ({
      index,
      node,
      ready: isReady,
      draining,
    }));
  }

  /** Whether every slot has a worker that accepts. */
  get ready(): boolean {
    const serving = [...this.#workers].filter(({ isReady, draining }) => isReady && !draining);
    return new Set(serving.map(({ index }) => index)).size === this.#options.count;
  }

  /** Starts all workers. Rejects if the first one cannot start: its output says why. */
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
          port_join: (said) => this.#joinsPort(control, said as PortJoin),
        });
        tellChanges(directory, control);
        control.add(this.#options.methods?.(control) ?? {});
      },
    });
    await this.#launch(0).ready.promise;
    await Promise.all(Array.from({ length: count - 1 }, (_, index) => this.#launch(index + 1).ready.promise));
  }

  /**
   * Replaces every worker in turn: the new one accepts before the old one stops accepting. Streams of the old ones
   * continue for the drain time. Resolves once all new ones are serving.
   */
  upgrade(): Promise<void> {
    return this.#upgrading ??= this.#replaceAll().finally(() => this.#upgrading = undefined);
  }

  /** Calls `listener` with the progress of an upgrade until the returned function is called. */
  watchUpgrade(listener: (progress: UpgradeProgress) => void): () => void {
    this.#upgradeListeners.add(listener);
    return () => void this.#upgradeListeners.delete(listener);
  }

  /** Calls a method of every running worker; those that do not answer are left out. */
  async ask<Result>(method: string): Promise<readonly Result[]> {
    const { log } = this.#options;
    const asked = [...this.#workers].map((worker) =>
      worker.control?.call<Result>(method).catch((error) => {
        const { index, draining } = worker;
        // A draining worker may end at any time; the others should have answered.
        if (!draining) log.warn({ worker: index, method, reason: errorCode(error) }, errorMessage(error));
        return undefined;
      }) ?? undefined
    );
    return (await Promise.all(asked)).filter((answer) => answer !== undefined) as Result[];
  }

  /** Stops all workers: their streams may continue for `drainMs`. */
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
    const number = this.#freeNumber();
    const process = spawn({
      index,
      number,
      node,
      folder,
      controlPath: this.#controlPath,
      secret: this.#secret,
      listening: this.#listening,
      startedAtS: this.#startedAtS,
    });
    const worker: Worker = {
      index,
      number,
      relayPorts: new Map(),
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
    // There may be no waiter for a restarted one.
    worker.ready.promise.catch(() => {});
    this.#workers.add(worker);
    const late = runtime.clock.after(WORKER_START_MS, () => {
      log.error({ worker: index }, `worker didn't start in ${WORKER_START_MS / 1000} s`);
      process.kill();
    });
    worker.ready.promise.then(() => late.cancel(), () => late.cancel());
    void process.ended.then((code) => this.#ended(worker, code));
    return worker;
  }

  #ended(worker: Worker, code: number | undefined): void {
    const { clock } = this.#options.runtime;
    this.#workers.delete(worker);
    this.#tellPorts(worker);
    this.#store.nodes.delete(worker.node);
    for (const watcher of this.#store.watchers) watcher({ kind: "node_left", node: worker.node });
    const why = code === undefined ? "was killed" : `ended with exit code ${code}`;
    worker.ready.reject(
      new SallyportError(
        "io_failed",
        `Cannot start worker ${worker.index}: it ${why}; see its output`,
        {
          side: "config",
        },
      ),
    );
    // A failed replacement leaves the old worker in its place.
    if (this.#stopping || worker.draining || (worker.replacing && !worker.isReady)) return;
    const settled = clock.nowMs() - worker.startedMs >= WORKER_SETTLED_MS;
    const pauseMs = settled
      ? WORKER_RESTART_FIRST_MS
      : this.#pauses.get(worker.index) ?? WORKER_RESTART_FIRST_MS;
    this.#pauses.set(worker.index, Math.min(WORKER_RESTART_MAX_MS, pauseMs * 2));
    this.#options.log.error(
      { worker: worker.index, next_attempt_seconds: pauseMs / 1000 },
      `worker ${why}; restarting it`,
    );
    // Only workers that served before are restarted: the first start fails as a whole.
    if (!worker.isReady && this.#listening === undefined) return;
    this.#restarts.set(worker.index, clock.after(pauseMs, () => void this.#launch(worker.index)));
  }

  #hello(
    control: ControlConnection,
    { node, secret, version = "unknown version" }: WorkerHello,
  ): true {
    const worker = [...this.#workers].find((known) => known.node === node);
    if (worker === undefined || secret !== this.#secret) {
      throw new SallyportError("access_denied", "Cannot join: this isn't a worker of this process", {
        side: "peer",
      });
    }
    worker.control = control;
    worker.version = version;
    return true;
  }

  #listens(control: ControlConnection, listening: WorkerPorts): true {
    const worker = this.#workerOf(control);
    this.#listening ??= listening;
    worker.isReady = true;
    worker.ready.resolve();
    return true;
  }

  #workerOf(control: ControlConnection): Worker {
    const worker = [...this.#workers].find((known) => known.control === control);
    if (worker !== undefined) return worker;
    throw new SallyportError("access_denied", "Cannot join: hello must come first", { side: "peer" });
  }

  // UDP ports.

  /** The smallest number that no running worker has. */
  #freeNumber(): number {
    const taken = new Set([...this.#workers].map(({ number }) => number));
    let number = 0;
    while (taken.has(number)) number++;
    return number;
  }

  #joinsPort(control: ControlConnection, { name, relayPort }: PortJoin): readonly PortMember[] {
    const worker = this.#workerOf(control);
    worker.relayPorts.set(name, relayPort);
    this.#tellPorts(worker);
    return this.#portMembers(name);
  }

  #portMembers(name: string): readonly PortMember[] {
    return [...this.#workers].filter(({ relayPorts }) => relayPorts.has(name)).map((worker) => ({
      number: worker.number,
      relayPort: worker.relayPorts.get(name)!,
      accepting: !worker.draining,
    }));
  }

  /** Tells all workers who shares this one's UDP ports: it has entered, drains, or has ended. */
  #tellPorts({ relayPorts }: Worker): void {
    for (const name of relayPorts.keys()) {
      const change: PortMembers = { name, members: this.#portMembers(name) };
      for (const { control } of this.#workers) control?.tell("port_members", change);
    }
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
        // The old ones continue: a failed upgrade takes nothing away.
        const reason = errorMessage(error);
        log.error({ worker: worker.index }, `Cannot upgrade: ${reason}`);
        tell({ kind: "failed", worker: worker.index, reason });
        throw error;
      }
      next.replacing = false;
      tell({ kind: "serves", worker: worker.index, before: worker.version, now: next.version });
      // Its streams continue while the next one is replaced.
      ended.push(this.#retire(worker, { graceMs: this.#options.drainMs, successor: true }));
    }
    log.info({ workers: old.length }, "the new workers serve; the old ones let their streams finish");
    tell({ kind: "done" });
    void Promise.all(ended).then(() => tell({ kind: "ended" }));
  }

  /** Drains a worker and makes sure that it ends. */
  async #retire(worker: Worker, request: DrainRequest): Promise<void> {
    const { clock } = this.#options.runtime;
    worker.draining = true;
    this.#tellPorts(worker);
    if (worker.control === undefined) worker.process.kill();
    else worker.control.call("drain", request).catch(() => {});
    const kill = clock.after(request.graceMs + WORKER_KILL_MS, () => worker.process.kill());
    await worker.process.ended;
    kill.cancel();
  }
}
