/**
 * Links: long-lived sessions between nodes, in which every visitor that arrives at the wrong node gets a stream
 * (docs/protocols/cluster.md, Links). The node that dials opens streams, the other one serves them.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { RandomPool } from "../crypto/random.ts";
import { errorMessage, internalError, SallyportError } from "../errors.ts";
import { CreditScratch } from "../protocol/mux/credit/sender.ts";
import { CreditSession } from "../protocol/mux/credit/session.ts";
import type { ByteStreamHandler, Clock, Conn } from "../runtime/port.ts";
import { ConnSession } from "../transport/conn_session.ts";
import type { Session, SessionHandler } from "../transport/port.ts";
import { type LinkEnd, LinkHandshake } from "./link_handshake.ts";

/** A link must stand by then: both ends are on one machine, or a few milliseconds apart. */
export const LINK_DEADLINE_MS = 5_000;

/** What links of one node share. */
interface LinkShared {
  readonly clock: Clock;
  /** This node's id. */
  readonly node: string;
  /** What the nodes of the cluster have in common. */
  readonly secret: Bytes;
  /** Working memory. */
  readonly scratch: LinkScratch;
}

/** Working memory that all links of a node share. */
export class LinkScratch {
  readonly frames: CreditScratch = new CreditScratch();
  readonly random: RandomPool = new RandomPool(4096);
}

/** A link that stands. */
interface Link {
  readonly session: Session;
  /** The other node. */
  readonly peer: string;
  /** The version that both ends speak. */
  readonly version: number;
}

/**
 * Makes a link of a connection. Rejects with `challenge_failed`, `not_supported`, `unknown_protocol`,
 * `deadline_exceeded` or `connection_lost`; the connection is closed then.
 */
export function openLink(
  conn: Conn,
  end: LinkEnd,
  shared: LinkShared,
  handler: (link: Link) => SessionHandler,
): Promise<Link> {
  return new Promise((resolve, reject) =>
    new LinkOpening(conn, end, shared, handler, resolve, reject).start()
  );
}

class LinkOpening implements ByteStreamHandler {
  readonly #conn: Conn;
  readonly #end: LinkEnd;
  readonly #shared: LinkShared;
  readonly #handler: (link: Link) => SessionHandler;
  readonly #resolve: (link: Link) => void;
  readonly #reject: (error: unknown) => void;
  readonly #handshake: LinkHandshake;
  readonly #timer;
  #over = false;

  constructor(
    conn: Conn,
    end: LinkEnd,
    shared: LinkShared,
    handler: (link: Link) => SessionHandler,
    resolve: (link: Link) => void,
    reject: (error: unknown) => void,
  ) {
    this.#conn = conn;
    this.#end = end;
    this.#shared = shared;
    this.#handler = handler;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#handshake = new LinkHandshake(end, shared.node, shared.secret);
    this.#timer = shared.clock.after(LINK_DEADLINE_MS, () => {
      const why = `Cannot link nodes: no handshake in ${LINK_DEADLINE_MS / 1000} s`;
      this.#fail(new SallyportError("deadline_exceeded", why, { side: "network", retryable: true }));
    });
  }

  start(): void {
    this.#conn.attach(this);
    this.#conn.write(this.#handshake.hello);
  }

  data(chunk: Bytes): void {
    if (this.#over) return;
    try {
      const { send, agreement } = this.#handshake.push(chunk);
      if (send !== undefined) this.#conn.write(send);
      if (agreement === undefined) return;
      this.#over = true;
      this.#timer.cancel();
      const { clock, scratch } = this.#shared;
      const session = new ConnSession({
        transport: "link",
        cipher: "none",
        halfClose: true,
        conn: this.#conn,
        clock,
        mux: (host) =>
          new CreditSession({
            role: this.#end === "dialer" ? "edge" : "agent",
            host,
            scratch: scratch.frames,
            random: scratch.random,
          }),
      });
      const link = { session, peer: agreement.peer, version: agreement.version };
      session.start(this.#handler(link), agreement.rest);
      this.#resolve(link);
    } catch (error) {
      this.#fail(error);
    }
  }

  end(): void {
    this.#lost("the other node closed it");
  }

  drain(): void {}

  close(error?: Error): void {
    this.#lost(error === undefined ? "the other node closed it" : errorMessage(error));
  }

  #lost(why: string): void {
    this.#fail(
      new SallyportError("connection_lost", `Cannot link nodes: ${why}`, {
        side: "network",
        retryable: true,
      }),
    );
  }

  #fail(cause: unknown): void {
    if (this.#over) return;
    this.#over = true;
    this.#timer.cancel();
    this.#conn.abort();
    this.#reject(internalError("handshake", cause));
  }
}
