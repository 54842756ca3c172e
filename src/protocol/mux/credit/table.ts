/**
 * The streams of a credit session over one byte stream, by number.
 *
 * @module
 */
import type { Role } from "../../../crypto/header_cipher.ts";
import { invalidFrame } from "../../../wire/credit/credit_frame.ts";
import type { CreditStream } from "./stream.ts";

/** The top bit of a stream number is set if the agent opened the stream. */
const AGENTS = 0x8000_0000;
/** Numbers aren't reused: a session that has nearly run out goes away and is replaced by a new one. */
const COUNT_MAX = 0x7fff_0000;

/** Streams by number, including those closed on the wire that still deliver. */
export class CreditTable {
  readonly #streams = new Map<number, CreditStream<number>>();
  /** First stream number of this side, and of the other side. */
  readonly #ownFrom: number;
  readonly #peersFrom: number;
  /** Numbers used by either side, counted from its first number. */
  #ownTaken = 0;
  #peersTaken = 0;

  constructor(role: Role) {
    this.#ownFrom = role === "agent" ? AGENTS : 0;
    this.#peersFrom = role === "agent" ? 0 : AGENTS;
  }

  /** Whether so few numbers are left that the session should be replaced. */
  get usedUp(): boolean {
    return this.#ownTaken >= COUNT_MAX;
  }

  /** Allocates this side's next number. */
  takeOwn(): number {
    return this.#ownFrom + ++this.#ownTaken;
  }

  /** Marks the peer's number, and all smaller ones, as used. Throws `frame_invalid` if it is not valid. */
  takePeers(number: number): void {
    const count = number - this.#peersFrom;
    if (count <= this.#peersTaken || count >= AGENTS) {
      throw invalidFrame(`stream ${number} is opened again, or out of order`);
    }
    this.#peersTaken = count;
  }

  /** Adds a stream whose number has been allocated. */
  add(stream: CreditStream<number>): void {
    this.#streams.set(stream.lane, stream);
  }

  /**
   * Returns the stream that a frame of the peer names, or undefined if it is over. Throws `frame_invalid` if it was never
   * opened.
   */
  find(number: number): CreditStream<number> | undefined {
    const taken = (number >= AGENTS) === (this.#ownFrom === AGENTS) ? this.#ownTaken : this.#peersTaken;
    const count = number % AGENTS;
    if (count === 0 || count > taken) {
      throw invalidFrame(`a frame names stream ${number}, which was never opened`);
    }
    return this.#streams.get(number);
  }

  /** Forgets a stream. */
  remove(stream: CreditStream<number>): void {
    this.#streams.delete(stream.lane);
  }
}
