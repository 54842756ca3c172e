/**
 * The streams of a session, by their 16-byte id.
 *
 * @module
 */
import type { Bytes } from "../../../bytes/bytes.ts";
import { Roster } from "../../../bytes/roster.ts";
import type { MuxStream } from "./stream.ts";

const ID_BYTES = 16;
/** Chains of a table with few streams, a power of two. It grows by this factor when there are as many streams. */
const CHAINS = 16;

type AllStreams = Roster<"tablePlace", MuxStream>;

/** Shared by all tables without streams; never written to. */
const NO_STREAMS: AllStreams = new Roster("tablePlace");
const NO_CHAINS: (MuxStream | undefined)[] = [];

/** Streams by id. Look-ups build no strings: some bits select a chain, whose members are compared in full. */
export class StreamTable {
  /** Created, like the roster, with the first stream: most sessions are idle. No `Map`, for the same reason as there. */
  #chains = NO_CHAINS;
  #all: AllStreams | undefined;

  /** Every stream that isn't over, including those without an id that still deliver. */
  get all(): Pick<AllStreams, "size" | typeof Symbol.iterator> {
    return this.#all ?? NO_STREAMS;
  }

  add(stream: MuxStream): void {
    const all = this.#all ??= new Roster("tablePlace");
    if (all.size >= this.#chains.length) this.#grow();
    all.add(stream);
    this.#link(stream);
  }

  /** Returns the stream whose id is at the start of `header`. */
  find(header: Bytes): MuxStream | undefined {
    let stream = this.#chains[this.#chainOf(header)];
    while (stream !== undefined && !sameId(stream.id, header)) stream = stream.nextAlike;
    return stream;
  }

  /** Removes the stream's id: frames for it are treated as for an unknown stream from now on. */
  unname(stream: MuxStream): void {
    const chain = this.#chainOf(stream.id);
    let at = this.#chains[chain];
    if (at === stream) this.#chains[chain] = stream.nextAlike;
    for (; at !== undefined; at = at.nextAlike) {
      if (at.nextAlike === stream) at.nextAlike = stream.nextAlike;
    }
    stream.nextAlike = undefined;
  }

  /** Removes the stream. Returns whether it was present. */
  remove(stream: MuxStream): boolean {
    this.unname(stream);
    return this.#all?.delete(stream) ?? false;
  }

  #grow(): void {
    const named = this.#chains;
    this.#chains = new Array(Math.max(CHAINS, named.length * CHAINS)).fill(undefined);
    for (let stream of named) {
      while (stream !== undefined) {
        const next: MuxStream | undefined = stream.nextAlike;
        this.#link(stream);
        stream = next;
      }
    }
  }

  #link(stream: MuxStream): void {
    const chain = this.#chainOf(stream.id);
    stream.nextAlike = this.#chains[chain];
    this.#chains[chain] = stream;
  }

  #chainOf(id: Bytes): number {
    return keyOf(id) & (this.#chains.length - 1);
  }
}

function keyOf(id: Bytes): number {
  return ((id[0] & 0x3f) << 24) | (id[1] << 16) | (id[2] << 8) | id[3];
}

function sameId(id: Bytes, header: Bytes): boolean {
  for (let i = 0; i < ID_BYTES; i++) if (id[i] !== header[i]) return false;
  return true;
}
