/**
 * The streams of a credit session, by number.
 *
 * @module
 */
import type { Role } from "../../../crypto/header_cipher.ts";
import { SallyportError } from "../../../errors.ts";
import type { Caller } from "../host.ts";
import type { StreamOwner } from "../stream_core.ts";
import { CreditStream } from "./stream.ts";
import { CREDIT_STREAM_FIRST_BYTES } from "./windows.ts";
import { STREAMS_PER_SESSION_MAX } from "../queue_limits.ts";

/** The highest bit of a stream's number says that the agent opened it. */
const AGENTS = 0x8000_0000;
/** Numbers aren't used again: a session that has so few left goes away, and a new one takes its place. */
const COUNT_MAX = 0x7fff_0000;

/** Streams by number; also those that are over on the wire and still deliver. */
export class CreditTable {
  readonly #owner: StreamOwner<CreditStream>;
  readonly #streams = new Map<number, CreditStream>();
  /** Where the numbers of this side begin, and the other side's. */
  readonly #ownFrom: number;
  readonly #peersFrom: number;
  /** Numbers taken of either side, counted from there. */
  #ownTaken = 0;
  #peersTaken = 0;

  constructor(owner: StreamOwner<CreditStream>, role: Role) {
    this.#owner = owner;
    this.#ownFrom = role === "agent" ? AGENTS : 0;
    this.#peersFrom = role === "agent" ? 0 : AGENTS;
  }

  get size(): number {
    return this.#streams.size;
  }

  [Symbol.iterator](): Iterator<CreditStream> {
    return this.#streams.values();
  }

  /** Whether there are as many streams as there may be. */
  get full(): boolean {
    return this.#streams.size >= STREAMS_PER_SESSION_MAX;
  }

  /** Whether so few numbers are left that the session should be replaced. */
  get usedUp(): boolean {
    return this.#ownTaken >= COUNT_MAX;
  }

  /** Takes the next number of this side. */
  takeOwn(): number {
    return this.#ownFrom + ++this.#ownTaken;
  }

  /** Takes a number of the peer's: no stream can be opened with it, or a smaller one. Throws `frame_invalid` where it can't be. */
  takePeers(id: number): void {
    const count = id - this.#peersFrom;
    if (count <= this.#peersTaken || count >= AGENTS) {
      throw invalidFrame(`stream ${id} is opened again, or out of turn`);
    }
    this.#peersTaken = count;
  }

  /** Makes a stream, whose number has been taken. */
  add(id: number, caller: Caller, own: boolean): CreditStream {
    const stream = new CreditStream(this.#owner, id, caller, own);
    stream.grantedBytes = CREDIT_STREAM_FIRST_BYTES;
    stream.sendCredit = CREDIT_STREAM_FIRST_BYTES;
    this.#streams.set(id, stream);
    return stream;
  }

  /**
   * The stream that a frame of the peer names; undefined where it is over. Throws `frame_invalid` where it was never
   * opened.
   */
  find(id: number): CreditStream | undefined {
    const taken = (id >= AGENTS) === (this.#ownFrom === AGENTS) ? this.#ownTaken : this.#peersTaken;
    const count = id % AGENTS;
    if (count === 0 || count > taken) {
      throw invalidFrame(`a frame names stream ${id}, which was never opened`);
    }
    return this.#streams.get(id);
  }

  /** Forgets a stream; says whether it was there. */
  remove(stream: CreditStream): boolean {
    return this.#streams.delete(stream.id);
  }
}

/** What the peer sent can't be. */
export function invalidFrame(why: string): SallyportError {
  return new SallyportError("frame_invalid", `Cannot read session: ${why}`, { side: "peer" });
}
