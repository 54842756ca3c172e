/** Nodes of a cluster for tests: each on a host of its own in a virtual network, with sessions that echo. */
import type { Bytes } from "../../src/bytes/bytes.ts";
import type { Directory, NodeRecord } from "../../src/cluster/directory.ts";
import { LinkScratch, openLink } from "../../src/cluster/link.ts";
import { createMemoryDirectory, DirectoryStore } from "../../src/cluster/memory_directory.ts";
import { ClusterNode, type SessionClaim } from "../../src/cluster/node.ts";
import { createMemoryNetwork, type MemoryNetwork } from "../../src/runtime/memory/memory.ts";
import type { ByteStream, Clock, Listener, Runtime } from "../../src/runtime/port.ts";
import { silentLogger } from "../../src/telemetry/log.ts";
import type { Caller, Session, SessionHandler } from "../../src/transport/port.ts";

const SECRET = new Uint8Array(32).fill(9);
const PORT = 7000;

/** A node with its host; `sessions` are those that it holds, by name. */
export class TestNode {
  readonly node: ClusterNode;
  readonly sessions = new Map<string, Session>();
  readonly lost: [name: string, reason: string][] = [];
  readonly id: string;
  readonly host: string;
  links = 0;
  dead = false;
  #listener: Listener | undefined;
  readonly #runtime: Runtime;
  readonly #scratch = new LinkScratch();
  readonly #clock: Clock;
  #claims = 0;

  /** @param clock the node's own, where it differs from the network's */
  constructor(network: MemoryNetwork, directory: Directory, index: number, clock: Clock = network.clock) {
    this.id = index.toString(16).padStart(32, "0");
    this.host = `10.0.0.${index}`;
    this.#runtime = network.runtime(this.host);
    this.#clock = clock;
    const shared = { clock, node: this.id, secret: SECRET, scratch: this.#scratch };
    this.node = new ClusterNode({
      directory,
      clock,
      log: silentLogger,
      record: () => this.record,
      link: async (node: NodeRecord, handler: SessionHandler) => {
        this.links++;
        const [host, port] = node.address.split(":");
        const conn = await this.#runtime.dial({ host: host!, port: Number(port), timeoutMs: 2_000 });
        return (await openLink(conn, "dialer", shared, () => handler)).session;
      },
      local: (name) => this.sessions.get(name),
    });
  }

  get record(): NodeRecord {
    const { id, host } = this;
    return { id, address: `${host}:${PORT}`, version: 1, sessions: this.sessions.size, draining: false };
  }

  async start(): Promise<void> {
    this.#listener = await this.#runtime.listen({
      host: this.host,
      port: PORT,
      accept: (conn) => {
        const shared = {
          clock: this.#clock,
          node: this.id,
          secret: SECRET,
          scratch: this.#scratch,
        };
        openLink(conn, "acceptor", shared, ({ session }) => this.node.accepted(session)).catch(() => {});
      },
    });
    await this.node.start();
  }

  /** Dies without a word: its process is gone, and so are its sessions and its lease's renewals. */
  async kill(): Promise<void> {
    this.#listener?.close();
    this.dead = true;
    this.sessions.clear();
    await this.node.close();
  }

  /**
   * An agent's session that echoes what its visitors send, in a connection of its own. `answers` false: it takes what
   * they send, and never says anything.
   */
  serve(
    name: string,
    { answers = true, ...more }: Partial<SessionClaim> & { readonly answers?: boolean } = {},
  ): { session: string; callers: Caller[]; open: ReadonlySet<Caller> } {
    const callers: Caller[] = [];
    const open = new Set<Caller>();
    this.sessions.set(name, echoSession(callers, open, answers));
    const session = more.session ?? `${this.id}-${++this.#claims}`;
    this.node.register({
      session,
      owner: name,
      group: session,
      madeAtMs: this.#claims,
      names: [name],
      lost: (names, reason) => names.forEach((lost) => this.lost.push([lost, reason])),
      ...more,
    });
    return { session, callers, open };
  }
}

/** A session whose streams send back what they get; `open` has the callers of those that are open. */
function echoSession(callers: Caller[], open: Set<Caller>, answers: boolean): Session {
  const session: Partial<Session> = {
    transport: "test",
    halfClose: true,
    streams: 0,
    open(caller) {
      callers.push(caller);
      open.add(caller);
      const close = () => {
        open.delete(caller);
        queueMicrotask(() => handler.close());
      };
      let handler: Parameters<ByteStream["attach"]>[0];
      const stream: ByteStream = {
        attach: (next) => void (handler = next),
        write: (chunk) => {
          const copy = chunk.slice();
          if (answers) queueMicrotask(() => handler.data(copy));
          return true;
        },
        closeWrite() {
          if (!answers) return;
          queueMicrotask(() => handler.end());
          close();
        },
        abort: close,
        release: close,
        pause() {},
        resume() {},
        bufferedBytes: 0,
      };
      return Object.assign(stream, { caller, peerPaused: false });
    },
  };
  return session as Session;
}

/** What a visitor hears who says `text` in a stream of `session`. */
export function visit(session: Session, caller: Caller, text = "hello"): Promise<string> {
  const stream = session.open(caller);
  return new Promise((resolve, reject) => {
    let got = "";
    stream.attach({
      data: (chunk: Bytes) => void (got += new TextDecoder().decode(chunk)),
      end() {},
      drain() {},
      close: (error) => error === undefined ? resolve(got) : reject(error),
    });
    stream.write(new TextEncoder().encode(text));
    stream.closeWrite();
  });
}

export async function cluster(
  count: number,
): Promise<{ network: MemoryNetwork; nodes: TestNode[]; store: DirectoryStore }> {
  const network = createMemoryNetwork({ link: { latencyMs: 1 } });
  const store = new DirectoryStore();
  const nodes: TestNode[] = [];
  for (let index = 1; index <= count; index++) {
    nodes.push(new TestNode(network, createMemoryDirectory({ clock: network.clock, store }), index));
  }
  await network.settle(Promise.all(nodes.map((node) => node.start())));
  return { network, nodes, store };
}
