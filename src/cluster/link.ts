/**
 * Links: long-lived sessions between nodes, with one stream for each visitor that arrives at the wrong node
 * (docs/protocols/cluster.md, Links). The node that dials opens streams, the other one serves them.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import type { AeadChoice } from "../crypto/aead.ts";
import type { KeyPair, Sodium } from "../crypto/sodium.ts";
import { errorMessage, internalError, SallyportError } from "../errors.ts";
import { SealedAgentHandshake } from "../protocol/handshake/sealed_agent.ts";
import { AnsweredFlights, SealedEdgeHandshake } from "../protocol/handshake/sealed_edge.ts";
import type { SealedKeys } from "../protocol/handshake/sealed_keys.ts";
import { CreditSession } from "../protocol/mux/credit/session.ts";
import type { ByteStreamHandler, Clock, Conn } from "../runtime/port.ts";
import { ConnSession } from "../transport/conn_session.ts";
import type { Session, SessionHandler } from "../transport/port.ts";
import { type SealedRecords, sealedRecords, SealedScratch } from "../transport/sealed/session.ts";
import { type LinkEnd, LinkHandshake } from "./link_handshake.ts";

/** The transport name of a link's session. */
export const LINK = "link";
/** Deadline for setting up a link between nodes: both ends are on one machine, or a few milliseconds apart. */
export const LINK_DEADLINE_MS = 5_000;

/** State shared by the links of one node. */
export interface LinkShared {
  readonly clock: Clock;
  /** This node's id. */
  readonly node: string;
  /** The secret shared by the nodes of the cluster. */
  readonly secret: Bytes;
  /** Working memory. */
  readonly scratch: LinkScratch;
}

/** Working memory that all links of a node share. */
export class LinkScratch extends SealedScratch {
  /** First flights of sealed links that have been answered. */
  readonly answered: AnsweredFlights = new AnsweredFlights();
}

/** Encryption of links between machines: every byte is encrypted, with keys unique to the connection. */
export interface LinkSeal {
  readonly sodium: Sodium;
  readonly aeads: AeadChoice;
  /** This node's own key pair; its record contains the public half. */
  readonly keys: KeyPair;
  /** For the dialling end: the public key in the other node's record. */
  readonly peerKey?: Bytes;
}

/** An established link. */
export interface Link {
  readonly session: Session;
  /** The other node. */
  readonly peer: string;
  /** The agreed protocol version. */
  readonly version: number;
}

/**
 * Sets up a link on a connection. Rejects with `challenge_failed`, `not_supported`, `unknown_protocol`,
 * `deadline_exceeded` or `connection_lost`, and closes the connection.
 *
 * @param seal absent on a Unix socket, whose bytes never leave the machine
 */
export function openLink(
  conn: Conn,
  end: LinkEnd,
  shared: LinkShared,
  handler: (link: Link) => SessionHandler,
  seal?: LinkSeal,
): Promise<Link> {
  return new Promise((resolve, reject) => {
    const opening = new LinkOpening({ conn, end, shared, handler, seal, resolve, reject });
    opening.start();
  });
}

interface LinkOpeningOptions {
  readonly conn: Conn;
  readonly end: LinkEnd;
  readonly shared: LinkShared;
  readonly seal: LinkSeal | undefined;
  handler(link: Link): SessionHandler;
  resolve(link: Link): void;
  reject(error: unknown): void;
}

class LinkOpening implements ByteStreamHandler {
  readonly #options: LinkOpeningOptions;
  readonly #timer;
  /** The key exchange, until it is complete. */
  #flight: SealedAgentHandshake | SealedEdgeHandshake | undefined;
  #records: SealedRecords | undefined;
  #handshake: LinkHandshake | undefined;
  #over = false;

  constructor(options: LinkOpeningOptions) {
    this.#options = options;
    this.#timer = options.shared.clock.after(LINK_DEADLINE_MS, () => {
      const why = `Cannot link nodes: no handshake in ${LINK_DEADLINE_MS / 1000} s`;
      this.#fail(new SallyportError("deadline_exceeded", why, { side: "network", retryable: true }));
    });
  }

  start(): void {
    const { conn, end, seal, shared: { clock, scratch } } = this.#options;
    conn.attach(this);
    if (seal === undefined) return this.#sayHello();
    const { sodium, aeads, keys, peerKey } = seal;
    const unixSeconds = () => Math.floor(clock.wallMs() / 1000);
    const aes = aeads.aes !== undefined;
    if (end === "acceptor") {
      this.#flight = new SealedEdgeHandshake({ sodium, keys, aes, unixSeconds, answered: scratch.answered });
      return;
    }
    try {
      const edgePublicKey = peerKey ?? new Uint8Array(0);
      const flight = new SealedAgentHandshake({ sodium, edgePublicKey, aes, unixSeconds: unixSeconds() });
      this.#flight = flight;
      conn.write(flight.first);
    } catch (error) {
      this.#fail(error);
    }
  }

  data(chunk: Bytes): void {
    if (this.#over) return;
    try {
      if (this.#flight !== undefined) this.#readFlight(this.#flight, chunk);
      else this.#readRecords(chunk);
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

  #readFlight(flight: SealedAgentHandshake | SealedEdgeHandshake, chunk: Bytes): void {
    if (flight instanceof SealedAgentHandshake) {
      const answered = flight.push(chunk);
      if (answered === undefined) return;
      this.#agreed("agent", answered.keys);
      this.#sayHello();
      return this.#readRecords(answered.rest);
    }
    const answered = flight.push(chunk);
    if (answered === undefined) return;
    this.#options.conn.write(answered.answer);
    this.#agreed("edge", answered.keys);
    this.#sayHello();
  }

  #agreed(role: "agent" | "edge", keys: SealedKeys): void {
    const { conn, shared: { clock, scratch }, seal } = this.#options;
    const { sodium, aeads } = seal!;
    this.#flight = undefined;
    this.#records = sealedRecords({ clock, sodium, aeads, scratch }, conn, role, keys);
  }

  #sayHello(): void {
    const { end, shared: { node, secret } } = this.#options;
    this.#handshake = new LinkHandshake(end, node, secret, this.#records?.channel);
    this.#write(this.#handshake.hello);
  }

  /** On a sealed connection each handshake message is a separate record. */
  #readRecords(wire: Bytes): void {
    if (this.#records === undefined) return void this.#read(wire, undefined);
    for (let rest = wire; rest.length > 0 && !this.#over;) {
      const record = this.#records.opener.openOne(rest);
      if (record === undefined) return;
      rest = record.rest;
      if (this.#read(record.data, rest)) return;
    }
  }

  /** True once the link is up; `behind` holds the bytes following this message on a sealed connection. */
  #read(message: Bytes, behind: Bytes | undefined): boolean {
    const { send, agreement } = this.#handshake!.push(message);
    if (send !== undefined) this.#write(send);
    if (agreement === undefined) return false;
    this.#over = true;
    this.#timer.cancel();
    const { handler, resolve } = this.#options;
    const session = this.#session();
    const link = { session, peer: agreement.peer, version: agreement.version };
    session.start(handler(link), behind ?? agreement.rest);
    resolve(link);
    return true;
  }

  #session(): ConnSession {
    const { conn, end, shared: { clock, scratch }, seal } = this.#options;
    return new ConnSession({
      transport: LINK,
      cipher: seal === undefined ? "none" : "sealed",
      halfClose: true,
      conn,
      clock,
      codec: this.#records?.codec(),
      mux: (host) =>
        new CreditSession({
          role: end === "dialer" ? "edge" : "agent",
          host,
          scratch: scratch.frames,
          random: scratch.random,
        }),
    });
  }

  #write(message: Bytes): void {
    const { conn } = this.#options;
    conn.write(this.#records === undefined ? message : this.#records.sealer.seal(message));
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
    this.#records?.opener.close();
    this.#options.conn.abort();
    this.#options.reject(internalError("handshake", cause));
  }
}
