/**
 * A worker's place in its machine's cluster: the control connection to its parent, its node, and the unix socket at which
 * other workers link to it (docs/protocols/cluster.md, Workers).
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { errorMessage, SallyportError } from "../errors.ts";
import type { Listener, Runtime } from "../runtime/port.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Session } from "../transport/port.ts";
import { ControlConnection } from "./control.ts";
import { LINK_DEADLINE_MS, LinkScratch, openLink } from "./link.ts";
import { LINK_VERSION } from "./link_handshake.ts";
import { ClusterNode } from "./node.ts";
import { RemoteDirectory } from "./remote_directory.ts";
import type { DrainRequest, WorkerAssignment, WorkerPorts } from "./supervisor.ts";

/** What {@link joinParent} takes. */
interface WorkerOptions {
  readonly runtime: Runtime;
  readonly log: Logger;
  readonly assignment: WorkerAssignment;
  /** A session of this worker for the name. */
  local(name: string): Session | undefined;
  /** How many sessions this worker has. */
  sessions(): number;
  /** The parent asks the worker to stop accepting, and to let streams finish for so long. */
  drain(graceMs: number): void;
  /** What this worker has measured, as the parent adds it up. */
  metrics(): Promise<unknown>;
  /** Counts a forwarded visitor. */
  forwarded?(direction: "in" | "out"): void;
}

/** A worker that has joined. */
export interface WorkerMembership {
  /** The connection to the parent. */
  readonly control: ControlConnection;
  readonly node: ClusterNode;
  /** Which keys any worker has used, as the parent knows. */
  readonly keyUses: {
    first(fingerprint: string, validUntilS: number): Promise<boolean>;
    readonly sinceS: number;
  };
  /** Tells the parent where this worker listens, by kind: it serves from now on. */
  listening(addresses: WorkerPorts): Promise<void>;
  /** Says that this worker takes no new agents. */
  draining(): Promise<void>;
  /** Resolves when the parent is gone. */
  readonly over: Promise<void>;
  /** Leaves the cluster when forwarded visitors have left, or after `graceMs`. */
  close(graceMs: number): Promise<void>;
}

/** Joins the parent process. Rejects where it is not there, or refuses. */
export async function joinParent(options: WorkerOptions): Promise<WorkerMembership> {
  const { runtime, log, assignment } = options;
  const { clock } = runtime;
  const conn = await runtime.dialUnix({ path: assignment.controlPath, timeoutMs: LINK_DEADLINE_MS });
  const control = new ControlConnection(conn, clock, {
    drain: (request) => {
      const { graceMs, successor } = request as DrainRequest;
      node.last = !successor;
      options.drain(graceMs);
    },
    metrics: () => options.metrics(),
  });
  await control.call("hello", { node: assignment.node, secret: assignment.secret });
  const shared = {
    clock,
    node: assignment.node,
    secret: new Uint8Array(Buffer.from(assignment.secret, "hex")),
    scratch: new LinkScratch(),
  };
  const path = `${assignment.folder}/${assignment.node.slice(0, 12)}.sock`;
  let draining = false;
  const node = new ClusterNode({
    directory: new RemoteDirectory(control),
    clock,
    log,
    record: () => ({
      id: assignment.node,
      address: `unix:${path}`,
      version: LINK_VERSION,
      sessions: options.sessions(),
      draining,
    }),
    link: async (to, handler) => {
      const other = await runtime.dialUnix({ path: unixPath(to.address), timeoutMs: LINK_DEADLINE_MS });
      return (await openLink(other, "dialer", shared, () => handler)).session;
    },
    local: (name) => options.local(name),
    ...options.forwarded === undefined ? {} : { forwarded: options.forwarded },
  });
  const listener: Listener = await runtime.listenUnix({
    path,
    accept: (link) => {
      openLink(link, "acceptor", shared, ({ session }) => node.accepted(session)).catch((error) =>
        log.warn({}, `Cannot accept a link: ${errorMessage(error)}`)
      );
    },
  });
  await node.start();
  return {
    control,
    node,
    keyUses: {
      first: (fingerprint, validUntilS) => control.call("key_first", [fingerprint, validUntilS]),
      sinceS: assignment.startedAtS,
    },
    over: control.over,
    listening: async (addresses) => void await control.call("listening", addresses),
    async draining() {
      draining = true;
      await node.announce();
    },
    async close(graceMs) {
      await node.close(graceMs);
      listener.close();
      control.close();
    },
  };
}

function unixPath(address: string): string {
  if (address.startsWith("unix:")) return address.slice("unix:".length);
  throw new SallyportError("not_supported", `Cannot link to ${address}: workers link by unix sockets`, {
    side: "local",
  });
}
