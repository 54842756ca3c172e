/**
 * How nodes reach each other: over a Unix socket on the same machine, over sealed TCP between machines
 * (docs/protocols/cluster.md, Links).
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Bytes } from "../bytes/bytes.ts";
import { errorCode, errorMessage, SallyportError } from "../errors.ts";
import type { Address, Conn, Listener, Runtime } from "../runtime/port.ts";
import type { Logger } from "../telemetry/log.ts";
import { LogSampler } from "../telemetry/log_sampler.ts";
import type { Session, SessionHandler } from "../transport/port.ts";
import { PendingConnections } from "../wire/ip/pending_connections.ts";
import type { NodeRecord } from "./directory.ts";
import {
  type Link,
  LINK_DEADLINE_MS,
  LinkScratch,
  type LinkSeal,
  type LinkShared,
  openLink,
} from "./link.ts";
import { unbracketed } from "../wire/ip/host_port.ts";

/**
 * Connections to the cluster's port that have not yet proved knowledge of the cluster's key; further ones are refused.
 */
export const LINKS_PENDING_MAX = 1_024;
/** The same from one address, so that a stranger can't keep the other nodes out. */
export const LINKS_PENDING_PER_SOURCE_MAX = 64;
/** Number of consecutive ports tried if several workers of a machine need one each. */
export const LINK_PORTS_TRIED = 512;

/** How nodes on other machines are reached. */
export interface MachineLinks extends Omit<LinkSeal, "peerKey"> {
  /** The key shared by the nodes of the cluster. */
  readonly clusterKey: Bytes;
}

/** Options of {@link NodeLinks}. */
export interface NodeLinksOptions {
  readonly runtime: Runtime;
  readonly log: Logger;
  /** This node's id. */
  readonly node: string;
  /** Links to nodes of the same machine: the machine's name, and the secret of its processes. */
  readonly machine?: { readonly name: string; readonly secret: Bytes };
  /** Links to nodes on other machines. */
  readonly network?: MachineLinks;
}

/** The fields of a node's record that say how to reach it. */
type NodeReach = Pick<NodeRecord, "address" | "publicKey" | "machine" | "socket">;

/** Listens for links from other nodes, and dials them. */
export class NodeLinks {
  readonly #options: NodeLinksOptions;
  readonly #scratch: LinkScratch;
  readonly #listeners: Listener[] = [];
  readonly #sampler: LogSampler;
  readonly #pending = new PendingConnections(LINKS_PENDING_MAX, LINKS_PENDING_PER_SOURCE_MAX);
  #reach: NodeReach = { address: "" };

  constructor(options: NodeLinksOptions) {
    this.#options = options;
    this.#scratch = new LinkScratch(options.runtime.memory);
    this.#sampler = new LogSampler({ log: options.log, clock: options.runtime.clock });
  }

  /** How others reach this node, given its listeners. */
  get reach(): NodeReach {
    return this.#reach;
  }

  /** Accepts links from nodes on this machine. */
  async listenUnix(path: string, accepted: (session: Session) => SessionHandler): Promise<void> {
    const { runtime, machine } = this.#options;
    const listener = await runtime.listenUnix({
      path,
      accept: (conn) => this.#accept(conn, this.#shared(machine!.secret), undefined, accepted),
    });
    this.#listeners.push(listener);
    this.#reach = {
      ...this.#reach,
      address: this.#reach.address === "" ? `unix:${path}` : this.#reach.address,
      machine: machine!.name,
      socket: path,
    };
  }

  /**
   * Accepts links from nodes on other machines. `address` is the address announced to them; with `portsTried` above 1
   * the next port is tried if one is taken. Rejects as `Runtime.listen` does.
   */
  async listenNetwork(
    at: Address,
    portsTried: number,
    address: (port: number) => string,
    accepted: (session: Session) => SessionHandler,
  ): Promise<Address> {
    const { runtime, network } = this.#options;
    const accept = (conn: Conn) => this.#accept(conn, this.#shared(network!.clusterKey), network, accepted);
    for (let tried = 0;; tried++) {
      try {
        const listener = await runtime.listen({
          host: at.host,
          port: at.port + tried,
          accept,
          peerSpeaks: true,
        });
        this.#listeners.push(listener);
        this.#reach = {
          ...this.#reach,
          address: address(listener.address.port),
          publicKey: Buffer.from(network!.keys.publicKey).toString("base64url"),
        };
        return listener.address;
      } catch (error) {
        const last = tried + 1 >= portsTried || at.port === 0 || at.port + tried >= 65_535;
        if (last || errorCode(error) !== "address_in_use") throw error;
      }
    }
  }

  /** Opens a link to another node. Rejects if it is unreachable, or has been replaced by another node. */
  async dial(to: NodeRecord, handler: SessionHandler): Promise<Session> {
    const { runtime, machine, network } = this.#options;
    if (machine !== undefined && to.socket !== undefined && to.machine === machine.name) {
      const conn = await runtime.dialUnix({ path: to.socket, timeoutMs: LINK_DEADLINE_MS });
      return await this.#dialled(to, openLink(conn, "dialer", this.#shared(machine.secret), () => handler));
    }
    if (network === undefined || to.publicKey === undefined) {
      const why = `Cannot link to ${to.address}: this node doesn't link to other machines`;
      throw new SallyportError("not_supported", why, { side: "local" });
    }
    const peerKey = new Uint8Array(Buffer.from(to.publicKey, "base64url"));
    const conn = await runtime.dial({
      ...parseAddress(to.address),
      timeoutMs: LINK_DEADLINE_MS,
      peerSpeaks: true,
    });
    const shared = this.#shared(network.clusterKey);
    return await this.#dialled(to, openLink(conn, "dialer", shared, () => handler, { ...network, peerKey }));
  }

  /** Stops accepting links. */
  close(): void {
    for (const listener of this.#listeners.splice(0)) listener.close();
    this.#sampler.flush();
  }

  async #dialled(to: NodeRecord, opening: Promise<Link>): Promise<Session> {
    const { session, peer } = await opening;
    if (peer === to.id) return session;
    const why = `Cannot link to ${to.address}: another node has its address now`;
    const error = new SallyportError("connection_lost", why, { side: "network", retryable: true });
    session.close(error);
    throw error;
  }

  #shared(secret: Bytes): LinkShared {
    const { runtime: { clock }, node } = this.#options;
    return { clock, node, secret, scratch: this.#scratch };
  }

  #accept(
    conn: Conn,
    shared: LinkShared,
    seal: LinkSeal | undefined,
    accepted: (session: Session) => SessionHandler,
  ): void {
    const leave = this.#pending.enter(conn.remote.host);
    if (leave === undefined) return conn.abort();
    openLink(conn, "acceptor", shared, ({ session }) => accepted(session), seal).catch((error) => {
      const fields = { peer: conn.remote.host, reason: errorCode(error) };
      this.#sampler.warn(
        `link ${errorCode(error)}`,
        fields,
        `Cannot accept link: ${errorMessage(error)}`,
      );
    }).finally(leave);
  }
}

function parseAddress(text: string): Address {
  const at = text.lastIndexOf(":");
  return { host: unbracketed(text.slice(0, at)), port: Number(text.slice(at + 1)) };
}
