/**
 * Records of the sealed transport: everything after the handshake, with a separate key per direction
 * (docs/protocols/sealed.md, Records). A record is two boxes: its lengths, then data and padding.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import type { RandomSource } from "../../crypto/random.ts";
import { TAG_BYTES } from "../../crypto/sodium.ts";
import { SallyportError } from "../../errors.ts";
import { paddingOf, RECORD_HEAD_BYTES } from "../../wire/sealed/sealed_messages.ts";
import { BoxChain, type BoxCipher } from "./box_chain.ts";
import { SEALED_PADDING_MAX_BYTES } from "../../wire/sealed/sealed_messages.ts";
import { LOGIN_MAX_BYTES } from "../../wire/login/login_messages.ts";

/** Sealed: number of first records padded in each direction, so that handshakes have no characteristic sizes. */
export const SEALED_PADDED_RECORDS = 8;
/** Sealed: maximum data of one record: a frame of the largest size, with small ones around it. */
export const SEALED_RECORD_MAX_BYTES = 68 * 1024;

const SEALED_HEAD_BYTES = RECORD_HEAD_BYTES + TAG_BYTES;
const BODY_MAX_BYTES = SEALED_RECORD_MAX_BYTES + SEALED_PADDING_MAX_BYTES + TAG_BYTES;
/** Buffers for partly received records that are kept for reuse. */
const KEPT_BUFFERS = 4;

/** Scratch memory for records. Sessions hold none of it between calls, so all sessions of a transport share one. */
export class RecordScratch {
  readonly #kept: Bytes[] = [];
  /** Outgoing record. */
  readonly wire: Bytes = new Uint8Array(SEALED_HEAD_BYTES + BODY_MAX_BYTES);
  /** A record's plaintext body, outgoing and incoming. */
  readonly outgoing: Bytes = new Uint8Array(BODY_MAX_BYTES);
  readonly incoming: Bytes = new Uint8Array(BODY_MAX_BYTES);

  /** A buffer for the largest body. */
  take(): Bytes {
    return this.#kept.pop() ?? new Uint8Array(BODY_MAX_BYTES);
  }

  /** Returns a buffer to the pool. */
  give(buffer: Bytes): void {
    if (this.#kept.length < KEPT_BUFFERS) this.#kept.push(buffer);
  }
}

/** Seals one direction. */
export class RecordSealer {
  readonly #chain: BoxChain;
  readonly #scratch: RecordScratch;
  readonly #random: RandomSource;
  readonly #head: Bytes = new Uint8Array(RECORD_HEAD_BYTES);
  readonly #headView = new DataView(this.#head.buffer as ArrayBuffer);
  #toPad = SEALED_PADDED_RECORDS;

  /** @param random source of two bytes for each of the first records. */
  constructor(cipher: BoxCipher, scratch: RecordScratch, random: RandomSource) {
    this.#chain = new BoxChain(cipher);
    this.#scratch = scratch;
    this.#random = random;
  }

  /** Seals `plain`, at most {@link SEALED_RECORD_MAX_BYTES}, as a record, valid until the scratch's next use. */
  seal(plain: Bytes): Bytes {
    if (plain.length > SEALED_RECORD_MAX_BYTES) {
      throw new RangeError(`a record of ${plain.length} bytes is too long`);
    }
    const padding = this.#toPad > 0 ? this.#padding() : 0;
    const bodyBytes = plain.length + padding;
    const { wire, outgoing } = this.#scratch;
    this.#headView.setUint32(0, plain.length);
    this.#headView.setUint16(4, padding);
    this.#chain.seal(this.#head, wire.subarray(0, SEALED_HEAD_BYTES));
    let body = plain;
    if (padding > 0) {
      outgoing.set(plain);
      outgoing.fill(0, plain.length, bodyBytes);
      body = outgoing.subarray(0, bodyBytes);
    }
    const end = SEALED_HEAD_BYTES + bodyBytes + TAG_BYTES;
    this.#chain.seal(body, wire.subarray(SEALED_HEAD_BYTES, end));
    return wire.subarray(0, end);
  }

  #padding(): number {
    this.#toPad--;
    const drawn = new Uint8Array(2);
    this.#random.fill(drawn);
    return paddingOf(drawn[0]!, drawn[1]!);
  }
}

/** Opens one direction. */
export class RecordOpener {
  readonly #chain: BoxChain;
  readonly #scratch: RecordScratch;
  readonly #head: Bytes = new Uint8Array(SEALED_HEAD_BYTES);
  readonly #plainHead: Bytes = new Uint8Array(RECORD_HEAD_BYTES);
  readonly #headView = new DataView(this.#plainHead.buffer as ArrayBuffer);
  #headFilled = 0;
  /** The current record's data and sealed body, once the head is open. */
  #dataBytes = 0;
  #bodyBytes = 0;
  /** The partly received body, in a borrowed buffer. */
  #body: Bytes | undefined;
  #bodyFilled = 0;

  /** The longest record accepted: a login, until the peer is authenticated. */
  maxBytes: number = LOGIN_MAX_BYTES;

  constructor(cipher: BoxCipher, scratch: RecordScratch) {
    this.#chain = new BoxChain(cipher);
    this.#scratch = scratch;
  }

  /**
   * Accepts bytes from the peer and passes on each record's data, a view that is valid during the call.
   *
   * @throws {SallyportError} `cipher_failed`: a record was altered, isn't the next one, or is too long.
   */
  open(wire: Bytes, plain: (data: Bytes) => void): void {
    let at = 0;
    while (at < wire.length) {
      at = this.#take(wire, at);
      if (!this.#complete) continue;
      this.#complete = false;
      plain(this.#data);
    }
  }

  /** Reads up to the end of one record. Returns its data, a view, and the rest of `wire`. Throws as `open`. */
  openOne(wire: Bytes): { data: Bytes; rest: Bytes } | undefined {
    let at = 0;
    while (at < wire.length) {
      at = this.#take(wire, at);
      if (!this.#complete) continue;
      this.#complete = false;
      return { data: this.#data, rest: wire.subarray(at) };
    }
    return undefined;
  }

  /** Releases the buffers: the session is over. */
  close(): void {
    if (this.#body !== undefined) this.#scratch.give(this.#body);
    this.#body = undefined;
  }

  #complete = false;
  #data: Bytes = new Uint8Array(0);

  /** Reads bytes from `at` up to the end of a head or a body. Returns the end offset. */
  #take(wire: Bytes, at: number): number {
    if (this.#headFilled < SEALED_HEAD_BYTES) {
      const length = Math.min(SEALED_HEAD_BYTES - this.#headFilled, wire.length - at);
      this.#head.set(wire.subarray(at, at + length), this.#headFilled);
      this.#headFilled += length;
      if (this.#headFilled === SEALED_HEAD_BYTES) this.#openHead();
      return at + length;
    }
    const left = wire.length - at;
    if (this.#bodyFilled === 0 && left >= this.#bodyBytes) {
      this.#openBody(wire.subarray(at, at + this.#bodyBytes));
      return at + this.#bodyBytes;
    }
    this.#body ??= this.#scratch.take();
    const length = Math.min(this.#bodyBytes - this.#bodyFilled, left);
    this.#body.set(wire.subarray(at, at + length), this.#bodyFilled);
    this.#bodyFilled += length;
    if (this.#bodyFilled === this.#bodyBytes) {
      const body = this.#body;
      this.#body = undefined;
      try {
        this.#openBody(body.subarray(0, this.#bodyBytes));
      } finally {
        this.#scratch.give(body);
      }
    }
    return at + length;
  }

  #openHead(): void {
    if (!this.#chain.open(this.#head, this.#plainHead)) throw broken("was altered");
    this.#dataBytes = this.#headView.getUint32(0);
    const padding = this.#headView.getUint16(4);
    if (this.#dataBytes > this.maxBytes || padding > SEALED_PADDING_MAX_BYTES) {
      throw broken(`of ${this.#dataBytes} bytes and ${padding} of padding is too long`);
    }
    this.#bodyBytes = this.#dataBytes + padding + TAG_BYTES;
  }

  #openBody(sealed: Bytes): void {
    const body = this.#scratch.incoming.subarray(0, sealed.length - TAG_BYTES);
    if (!this.#chain.open(sealed, body)) throw broken("was altered");
    this.#headFilled = 0;
    this.#bodyFilled = 0;
    this.#data = body.subarray(0, this.#dataBytes);
    this.#complete = true;
  }
}

function broken(why: string): SallyportError {
  return new SallyportError("cipher_failed", `Cannot read session: a record ${why}`, { side: "peer" });
}
