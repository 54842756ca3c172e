/**
 * The streams of a session, by their 16-byte id.
 *
 * @module
 */
import type { Bytes } from "../../../bytes/bytes.ts";
import type { MuxStream } from "./stream.ts";

const ID_BYTES = 16;
const NO_STREAMS: ReadonlySet<MuxStream> = new Set();

/** Streams by id. Look-ups build no strings: the first 30 bits select a chain, whose members are compared in full. */
export class StreamTable {
  /** Created, like the set, with the first stream: most sessions are idle. */
  #chains: Map<number, MuxStream> | undefined;
  #all: Set<MuxStream> | undefined;

  /** Every stream that isn't over, including those without an id that still deliver. */
  get all(): ReadonlySet<MuxStream> {
    return this.#all ?? NO_STREAMS;
  }

  add(stream: MuxStream): void {
    const key = keyOf(stream.id);
    const chains = this.#chains ??= new Map();
    stream.nextAlike = chains.get(key);
    chains.set(key, stream);
    (this.#all ??= new Set()).add(stream);
  }

  /** Returns the stream whose id is at the start of `header`. */
  find(header: Bytes): MuxStream | undefined {
    let stream = this.#chains?.get(keyOf(header));
    while (stream !== undefined && !sameId(stream.id, header)) stream = stream.nextAlike;
    return stream;
  }

  /** Removes the stream's id: frames for it are treated as for an unknown stream from now on. */
  unname(stream: MuxStream): void {
    const chains = this.#chains;
    if (chains === undefined) return;
    const key = keyOf(stream.id);
    let at = chains.get(key);
    if (at === stream) {
      if (stream.nextAlike === undefined) chains.delete(key);
      else chains.set(key, stream.nextAlike);
    }
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
}

function keyOf(id: Bytes): number {
  return ((id[0] & 0x3f) << 24) | (id[1] << 16) | (id[2] << 8) | id[3];
}

function sameId(id: Bytes, header: Bytes): boolean {
  for (let i = 0; i < ID_BYTES; i++) if (id[i] !== header[i]) return false;
  return true;
}
