/**
 * `--workers`: a parent process that serves metrics and, with `serve`, the session master, and worker processes that share
 * the edge's ports.
 *
 * @module
 */
import { chmod, mkdir, mkdtemp, rm } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import type { EdgeOffer } from "../cluster/directory.ts";
import { Supervisor, type WorkerAssignment, type WorkerProcess } from "../cluster/supervisor.ts";
import { serveUpgrades, UPGRADE_SOCKET } from "../cluster/upgrade_socket.ts";
import { joinParent, type WorkerMembership } from "../cluster/worker.ts";
import type { Config } from "../config/config.ts";
import type { Edge } from "../edge/edge.ts";
import type { KeyUseStore } from "../edge/used_keys.ts";
import { errorCode, errorMessage } from "../errors.ts";
import type { Address } from "../runtime/port.ts";
import { SHUTDOWN_GRACE_MS } from "../transport/port.ts";
import type { PortGroup } from "../transport/port_group.ts";
import type { ControlConnection, ControlMethods } from "../cluster/control.ts";
import type { ControlLink } from "../edge/ledger/reporter.ts";
import type { EdgeHub } from "../master/edge_hub.ts";
import type { EdgeMessage, EdgeReport } from "../wire/control/control_messages.ts";
import { clusterHost, type ClusterPart, drainMs, networkPlace } from "./cluster.ts";
import type { EdgePart, EdgePlace } from "./edge_server.ts";
import type { Base } from "./parts.ts";
import { DataDir } from "./data_dir.ts";
import { commandLine } from "./io.ts";
import { respawn } from "./respawn.ts";
import type { HostPort } from "../wire/ip/host_port.ts";

/** Environment variable that makes a process a worker. */
const VARIABLE = "SALLYPORT_WORKER";

/** This process's worker assignment; undefined if it isn't a worker. */
export function workerAssignment(
  env: Readonly<Record<string, string | undefined>>,
): WorkerAssignment | undefined {
  const text = env[VARIABLE];
  return text === undefined || text === "" ? undefined : JSON.parse(text) as WorkerAssignment;
}

/** The number of workers that the setting requests. */
export function workerCount(setting: "auto" | number): number {
  return setting === "auto" ? availableParallelism() : setting;
}

/** Starts the workers of a parent process; they end with it. */
export async function startWorkers(
  base: Base,
  config: Config,
  setting: "auto" | number,
  hub?: EdgeHub,
): Promise<EdgePart> {
  const { io, runtime, log, life } = base;
  const folder = await socketFolder(config.dataDir);
  life.add("socket folder", () => rm(folder, { recursive: true, force: true }));
  const supervisor = new Supervisor({
    runtime,
    log,
    count: workerCount(setting),
    folder,
    drainMs: config.drainTimeout,
    ...hub === undefined ? {} : { methods: (control: ControlConnection) => hubMethods(hub, control) },
    spawn: (assignment) => spawnWorker(assignment, [folder, config.dataDir]),
  });
  life.add("workers", () => supervisor.stop());
  const upgrade = () => {
    supervisor.upgrade().catch((error) => log.error({}, `Cannot upgrade: ${errorMessage(error)}`));
  };
  life.add("upgrade signal", io.onUpgrade?.(upgrade) ?? (() => {}));
  await supervisor.start();
  await openUpgradeSocket(base, config, supervisor);
  base.metrics.addOthers(() => supervisor.ask<unknown>("metrics"));
  const { visitors = [], agents = [], sealed = [], curve = [], quic = [] } = supervisor.listening;
  return { ready: () => supervisor.ready, visitors, agents, sealed, curve, quic };
}

/** Opens the socket for `sallyport upgrade`; without it, SIGUSR2 still works. */
async function openUpgradeSocket(
  { io, runtime, log, life }: Base,
  { dataDir }: Config,
  supervisor: Supervisor,
): Promise<void> {
  const data = new DataDir(dataDir);
  try {
    await data.make();
    const path = data.file(UPGRADE_SOCKET);
    const listener = await serveUpgrades({ runtime, path, supervisor });
    life.add("upgrade socket", async () => {
      listener.close();
      await rm(path, { force: true });
    });
  } catch (error) {
    log.warn(
      { reason: errorCode(error) },
      `\`${commandLine(io, "upgrade")}\` won't work: ${errorMessage(error)}`,
    );
  }
}

/** The parent's session master, as methods for its workers. */
function hubMethods(hub: EdgeHub, control: ControlConnection): ControlMethods {
  return {
    hub_report: (report) => hub.report(report as EdgeReport),
    hub_listen: async (since) => {
      const undo = await hub.listen(
        since as number ?? undefined,
        (message) => control.tell("hub_said", message),
      );
      void control.over.then(undo);
    },
  };
}

/** A worker's link to its parent's session master. */
function parentHubLink({ control, over }: WorkerMembership): ControlLink {
  return {
    async listen(since, hear, signal) {
      control.on("hub_said", (message) => hear(message as EdgeMessage));
      await control.call("hub_listen", since);
      const aborted = new Promise<void>((resolve) => {
        if (signal.aborted) resolve();
        else signal.addEventListener("abort", () => resolve(), { once: true });
      });
      await Promise.race([over, aborted]);
    },
    report: (report) => control.call("hub_report", report),
  };
}

/** This process's place among its parent's workers. */
export class WorkerPlace {
  readonly assignment: WorkerAssignment;
  /** Resolves when the worker must stop: its parent has requested it, or is gone. */
  readonly stop: Promise<void>;
  /** How long its streams may then continue. */
  graceMs: number = SHUTDOWN_GRACE_MS;
  /** The running edge; set it before calling {@link WorkerPlace.listening}. */
  edge: Edge | undefined;
  offer: EdgeOffer | undefined;
  readonly offered: EdgePlace["offered"];
  readonly reusePort = true;
  readonly succeeds: boolean;
  portGroup!: PortGroup;
  membership!: WorkerMembership;
  keyUses!: KeyUseStore;
  readonly #stop = Promise.withResolvers<void>();

  constructor(assignment: WorkerAssignment, offered: EdgePlace["offered"]) {
    this.assignment = assignment;
    this.succeeds = assignment.listening !== undefined;
    this.offered = offered;
    this.stop = this.#stop.promise;
  }

  /** Joins the parent, and the cluster of other machines, if any. */
  async join(base: Base, config: Config, cluster: ClusterPart | undefined): Promise<void> {
    const { runtime, log, metrics, life } = base;
    const network = cluster === undefined ? undefined : await networkPlace(base, config, cluster);
    this.membership = await joinParent({
      runtime,
      log,
      assignment: this.assignment,
      network,
      host: clusterHost(this, metrics),
      drain: (graceMs) => {
        this.graceMs = graceMs;
        this.#stop.resolve();
      },
      metrics: () => metrics.measured(),
    });
    this.portGroup = this.membership.portGroup;
    this.keyUses = network?.directory ?? this.membership.keyUses;
    metrics.watchCluster(() => this.membership.node);
    void this.membership.over.then(() => this.#stop.resolve());
    life.add("cluster", () => this.membership.close(drainMs(base, config, this.graceMs)));
  }

  /** This worker's link to its parent's session master, and its name there. */
  masterLink(): { readonly link: () => ControlLink; readonly worker: string } {
    return { link: () => parentHubLink(this.membership), worker: this.name };
  }

  /** This worker's name at the session master. */
  get name(): string {
    return this.assignment.node.slice(0, 8);
  }

  /** Reports this worker's listening addresses to the parent: it serves from now on. */
  async listening({ visitors, agents, sealed, curve, quic }: EdgePart): Promise<void> {
    await this.membership.listening({ visitors, agents, sealed, curve, quic });
  }

  /** The settings of this worker: the first worker's ports, and none for QUIC unless it is the first. */
  settings(config: Config): Config {
    const { index, listening } = this.assignment;
    return {
      ...config,
      listen: copy(listening?.visitors) ?? config.listen,
      agentListen: copy(listening?.agents) ?? config.agentListen,
      sealedListen: copy(listening?.sealed) ?? config.sealedListen,
      curveListen: copy(listening?.curve) ?? config.curveListen,
      quicListen: index > 0 ? [] : copy(listening?.quic) ?? config.quicListen,
    };
  }
}

function copy(addresses: readonly Address[] | undefined): HostPort[] | undefined {
  return addresses === undefined ? undefined : [...addresses];
}

/** Runs this process as a worker until its parent asks it to stop, or is gone. */
export async function runWorker(
  base: Base,
  { assignment, config, cluster, offered }: {
    readonly assignment: WorkerAssignment;
    readonly config: Config;
    readonly cluster: ClusterPart | undefined;
    readonly offered: EdgePlace["offered"];
  },
  start: (place: WorkerPlace) => Promise<EdgePart>,
): Promise<number> {
  return await base.life.run(async () => {
    const place = new WorkerPlace(assignment, cluster === undefined ? undefined : offered);
    await place.join(base, config, cluster);
    await place.listening(await start(place));
    return { over: place.stop };
  });
}

/**
 * A folder for sockets, accessible only to this user. Socket paths must be short, so the data folder is the second
 * choice.
 */
async function socketFolder(dataDir: string): Promise<string> {
  try {
    return await mkdtemp(join(tmpdir(), "sallyport-"));
  } catch {
    await mkdir(dataDir, { recursive: true, mode: 0o700 });
    const folder = await mkdtemp(join(dataDir, "run-"));
    await chmod(folder, 0o700);
    return folder;
  }
}

function spawnWorker(assignment: WorkerAssignment, folders: readonly string[]): WorkerProcess {
  const child = respawn({ [VARIABLE]: JSON.stringify(assignment) }, folders);
  const ended = Promise.withResolvers<number | undefined>();
  child.on("error", () => ended.resolve(undefined));
  child.on("exit", (code) => ended.resolve(code ?? undefined));
  return { ended: ended.promise, kill: () => void child.kill("SIGKILL") };
}
