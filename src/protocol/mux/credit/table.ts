/**
 * The streams of a credit session over one byte stream, by number.
 *
 * @module
 */
import type { Role } from "../../../crypto/header_cipher.ts";
import { invalidFrame } from "../../../wire/credit/credit_frame.ts";
import type { CreditStream } from "./stream.ts";

/** The highest bit of a stream's number says that the agent opened it. */
const AGENTS = 0x8000_0000;
/** Numbers aren't used again: a session that has so few left goes away, and a new one takes its place. */
const COUNT_MAX = 0x7fff_0000;

/** Streams by number; also those that are over on the wire and still deliver. */
export class CreditTable {
  readonly #streams = new Map<number, CreditStream<number>>();
  /** Where the numbers of this side begin, and the other side's. */
  readonly #ownFrom: number;
  readonly #peersFrom: number;
  /** Numbers taken of either side, counted from there. */
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

  /** Takes the next number of this side. */
  takeOwn(): number {
    return this.#ownFrom + ++this.#ownTaken;
  }

  /** Takes a number of the peer's: no stream can be opened with it, or a smaller one. Throws `frame_invalid` where it can't be. */
  takePeers(number: number): void {
    const count = number - this.#peersFrom;
    if (count <= this.#peersTaken || count >= AGENTS) {
      throw invalidFrame(`stream ${number} is opened again, or out of turn`);
    }
    this.#peersTaken = count;
  }

  /** Keeps a stream, whose number has been taken. */
  add(stream: CreditStream<number>): void {
    this.#streams.set(stream.lane, stream);
  }

  /**
   * The stream that a frame of the peer names; undefined where it is over. Throws `frame_invalid` where it was never
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
