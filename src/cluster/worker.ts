/**
 * A worker's membership in its machine's cluster: the control connection to its parent, its node, and the Unix socket
 * where other workers link to it (docs/protocols/cluster.md, Workers).
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { hash } from "node:crypto";
import type { Bytes } from "../bytes/bytes.ts";
import { hkdfExpand } from "../crypto/hkdf.ts";
import type { Runtime } from "../runtime/port.ts";
import type { Logger } from "../telemetry/log.ts";
import { ControlConnection } from "./control.ts";
import { LINK_DEADLINE_MS } from "./link.ts";
import { type ClusterHost, joinCluster, type Membership, type NetworkPlace } from "./membership.ts";
import { RemoteDirectory } from "./remote_directory.ts";
import { VERSION } from "../version.ts";
import { GROUP_SECRET_BYTES, type PortGroup, type PortMember } from "../transport/port_group.ts";
import type {
  DrainRequest,
  PortJoin,
  PortMembers,
  WorkerAssignment,
  WorkerHello,
  WorkerPorts,
} from "./supervisor.ts";

/** Options of {@link joinParent}. */
interface WorkerOptions {
  readonly runtime: Runtime;
  readonly log: Logger;
  readonly assignment: WorkerAssignment;
  readonly host: ClusterHost;
  /** Set if the workers belong to a cluster of several machines: its directory replaces the parent's. */
  readonly network?: NetworkPlace | undefined;
  /** The parent asks the worker to stop accepting, and to let streams finish within `graceMs`. */
  drain(graceMs: number): void;
  /** This worker's metrics, for the parent to add up. */
  metrics(): Promise<unknown>;
}

/** A worker that has joined. */
export interface WorkerMembership extends Membership {
  /** The connection to the parent. */
  readonly control: ControlConnection;
  /** The keys used by any worker, as known to the parent. */
  readonly keyUses: {
    first(fingerprint: string, validUntilS: number): Promise<boolean>;
    readonly sinceS: number;
  };
  /** The workers that share this one's UDP ports. */
  readonly portGroup: PortGroup;
  /** Reports this worker's listening addresses to the parent, by kind: it is serving from now on. */
  listening(addresses: WorkerPorts): Promise<void>;
  /** Resolves when the parent is gone. */
  readonly over: Promise<void>;
}

/** Joins the parent process. Rejects if it is absent or refuses, and as {@link joinCluster} does. */
export async function joinParent(options: WorkerOptions): Promise<WorkerMembership> {
  const { runtime, log, assignment, host, network } = options;
  const { clock } = runtime;
  const secret = new Uint8Array(Buffer.from(assignment.secret, "hex"));
  const conn = await runtime.dialUnix({ path: assignment.controlPath, timeoutMs: LINK_DEADLINE_MS });
  const joined = Promise.withResolvers<Membership>();
  const control = new ControlConnection(conn, clock, {
    drain: async (request) => {
      const { graceMs, successor } = request as DrainRequest;
      // The parent may stop a worker that is still joining.
      const membership = await joined.promise;
      if (successor) membership.node.successor = true;
      options.drain(graceMs);
      // The session master sends agents elsewhere from now on.
      if (network !== undefined) await membership.draining();
    },
    metrics: () => options.metrics(),
  });
  await control.call(
    "hello",
    {
      node: assignment.node,
      secret: assignment.secret,
      version: VERSION,
    } satisfies WorkerHello,
  );
  const membership = await joinCluster({
    runtime,
    log,
    host,
    id: assignment.node,
    network,
    directory: new RemoteDirectory(control),
    machine: {
      name: hash("sha256", `sallyport machine ${assignment.secret}`, "hex").slice(0, 16),
      secret,
      socket: `${assignment.folder}/${assignment.node.slice(0, 12)}.sock`,
    },
  });
  joined.resolve(membership);
  return {
    ...membership,
    control,
    keyUses: {
      first: (fingerprint, validUntilS) => control.call("key_first", [fingerprint, validUntilS]),
      sinceS: assignment.startedAtS,
    },
    over: control.over,
    portGroup: portGroup(control, assignment.number, secret),
    listening: async (addresses) => void await control.call("listening", addresses),
    async close(graceMs) {
      await membership.close(graceMs);
      control.close();
    },
  };
}

/** The groups of this worker's UDP ports, which the parent keeps. */
function portGroup(control: ControlConnection, number: number, machineSecret: Bytes): PortGroup {
  const listeners = new Map<string, (members: readonly PortMember[]) => void>();
  control.on("port_members", (detail) => {
    const { name, members } = detail as PortMembers;
    listeners.get(name)?.(members);
  });
  return {
    number,
    secret: hkdfExpand(machineSecret, "sallyport port group", GROUP_SECRET_BYTES),
    async join(name, relayPort, changed) {
      listeners.set(name, changed);
      changed(await control.call("port_join", { name, relayPort } satisfies PortJoin));
    },
  };
}
