/**
 * The streams of a credit session, by number.
 *
 * @module
 */
import { errorMessage, SallyportError } from "../../errors.ts";
import { CREDIT_STREAM_FIRST_BYTES, STREAMS_PER_SESSION_MAX } from "../../limits.ts";
import type { Caller } from "../host.ts";
import type { StreamOwner } from "../stream_core.ts";
import { CreditStream } from "./stream.ts";

/** Numbers aren't used again: a session that has so few left goes away, and a new one takes its place. */
const ID_MAX = 0xffff_0000;

/** Streams by number; also those that are over on the wire and still deliver. */
export class CreditTable {
  readonly #owner: StreamOwner<CreditStream>;
  readonly #streams = new Map<number, CreditStream>();
  #lastId = 0;

  constructor(owner: StreamOwner<CreditStream>) {
    this.#owner = owner;
  }

  get size(): number {
    return this.#streams.size;
  }

  [Symbol.iterator](): Iterator<CreditStream> {
    return this.#streams.values();
  }

  /** The number that a stream would have that is opened now. */
  get nextId(): number {
    return this.#lastId + 1;
  }

  /** Whether there are as many streams as there may be. */
  get full(): boolean {
    return this.#streams.size >= STREAMS_PER_SESSION_MAX;
  }

  /** Whether so few numbers are left that the session should be replaced. */
  get usedUp(): boolean {
    return this.#lastId >= ID_MAX;
  }

  /** Takes the number: no stream can be opened with it, or a smaller one. Throws `frame_invalid` where it was taken. */
  take(id: number): void {
    if (id <= this.#lastId) throw invalidFrame(`stream ${id} is opened again, or out of turn`);
    this.#lastId = id;
  }

  /** Makes a stream, whose number has been taken. */
  add(id: number, caller: Caller): CreditStream {
    const stream = new CreditStream(this.#owner, id, caller);
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
    if (id === 0 || id > this.#lastId) {
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
  return new SallyportError("frame_invalid", `Cannot read session: ${why}`);
}

/** What reading the peer's frames threw, as what ends the session. */
export function readingError(error: unknown): SallyportError {
  return error instanceof SallyportError ? error : invalidFrame(errorMessage(error));
}
