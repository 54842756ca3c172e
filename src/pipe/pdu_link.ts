/**
 * One end of a sodium-tcp connection as a stream of PDUs (spec: sodium-tcp.md): sealed box first, then two secretstream
 * messages a PDU. No sockets and no time in here.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { type Sodium, STREAM_EXTRA_BYTES, TAG_FINAL, TAG_MESSAGE } from "../crypto/sodium.ts";
import { SallyportError } from "../errors.ts";
import { PIPE_BODY_MAX_BYTES } from "../limits.ts";
import { encodeHeader, parseHeader, PDU_HEADER_BYTES, type PduType } from "../wire/sodium_pdu.ts";

/** Who drives a {@link PduLink}. */
export interface PduLinkHost {
  /** Sends bytes; the view is valid during the call. */
  write(bytes: Bytes): void;
  /** The sealed box of the handshake is complete; the view is valid during the call. */
  box(sealed: Bytes): void;
  /** A PDU is complete; `body` is valid during the call. */
  pdu(type: number, body: Bytes): void;
  /** The peer marked its last message (tag FINAL). */
  final(): void;
}

const SEALED_HEADER_BYTES = PDU_HEADER_BYTES + STREAM_EXTRA_BYTES;

/** Cuts a byte stream into messages, opens them, and seals those to send. */
export class PduLink {
  readonly #sodium: Sodium;
  readonly #host: PduLinkHost;
  #phase: "box" | "header" | "body" | "over" = "box";
  /** Length of the message that is waited for, and what of it lies in #pending. */
  #need: number;
  #have = 0;
  #pending: Bytes = new Uint8Array(0);
  #plain: Bytes = new Uint8Array(PDU_HEADER_BYTES);
  #out: Bytes = new Uint8Array(0);
  readonly #header = new Uint8Array(PDU_HEADER_BYTES);
  #type = 0;
  #sendState: Bytes | undefined;
  #receiveState: Bytes | undefined;

  /** @param boxBytes length of the peer's sealed box, which comes first. */
  constructor(sodium: Sodium, boxBytes: number, host: PduLinkHost) {
    this.#sodium = sodium;
    this.#host = host;
    this.#need = boxBytes;
  }

  /** Whether nothing of a message has come that isn't complete. */
  get atBoundary(): boolean {
    return this.#phase !== "body" && this.#have === 0;
  }

  /** From the next message on, sends under this secretstream state, which the link keeps and steps. */
  sendUnder(state: Bytes): void {
    this.#sendState = state;
  }

  /** From the next message on, receives under this secretstream state, which the link keeps and steps. */
  receiveUnder(state: Bytes): void {
    this.#receiveState = state;
    if (this.#phase === "box") this.#expect("header", SEALED_HEADER_BYTES);
  }

  /** Takes no more bytes and sends none. */
  stop(): void {
    this.#phase = "over";
    this.#sendState = undefined;
  }

  /**
   * Takes bytes of the peer, cut anywhere. Throws `cipher_failed` for what doesn't decrypt, `frame_invalid` and
   * `limit_exceeded` for what isn't a PDU; the link is of no use any more then.
   */
  receive(chunk: Bytes): void {
    let at = 0;
    while (at < chunk.length && this.#phase !== "over") {
      const need = this.#need;
      let message: Bytes;
      if (this.#have === 0 && chunk.length - at >= need) {
        message = chunk.subarray(at, at + need);
        at += need;
      } else {
        const part = chunk.subarray(at, at + need - this.#have);
        if (this.#pending.length < need) this.#growPending(need);
        this.#pending.set(part, this.#have);
        this.#have += part.length;
        at += part.length;
        if (this.#have < need) return;
        this.#have = 0;
        message = this.#pending.subarray(0, need);
      }
      this.#take(message);
    }
  }

  /** Seals and sends one PDU; nothing once stopped. `body` has at most 131,070 bytes. */
  send(type: PduType, body: Bytes): void {
    const state = this.#sendState;
    if (state === undefined) return;
    if (body.length > PIPE_BODY_MAX_BYTES) throw new RangeError(`a body of ${body.length} bytes is too long`);
    const size = SEALED_HEADER_BYTES + body.length + STREAM_EXTRA_BYTES;
    if (this.#out.length < size) this.#out = new Uint8Array(roomFor(size));
    encodeHeader(type, body.length, this.#header);
    this.#sodium.push(state, this.#header, this.#out.subarray(0, SEALED_HEADER_BYTES), TAG_MESSAGE);
    this.#sodium.push(state, body, this.#out.subarray(SEALED_HEADER_BYTES, size), TAG_MESSAGE);
    this.#host.write(this.#out.subarray(0, size));
  }

  #expect(phase: "header" | "body", need: number): void {
    this.#phase = phase;
    this.#need = need;
  }

  #growPending(need: number): void {
    const grown = new Uint8Array(roomFor(need));
    grown.set(this.#pending.subarray(0, this.#have));
    this.#pending = grown;
  }

  #take(message: Bytes): void {
    if (this.#phase === "box") {
      // The handshake sets the state, or ends the connection; meanwhile nothing more is taken.
      this.#host.box(message);
      return;
    }
    const size = message.length - STREAM_EXTRA_BYTES;
    if (this.#plain.length < size) this.#plain = new Uint8Array(roomFor(size));
    const plain = this.#plain.subarray(0, size);
    const tag = this.#sodium.pull(this.#receiveState as Bytes, message, plain);
    if (tag < 0) throw new SallyportError("cipher_failed", "Cannot open a message: it was altered");
    if (this.#phase === "header") {
      if (tag === TAG_FINAL) return this.#end();
      const header = parseHeader(plain);
      this.#type = header.type;
      this.#expect("body", header.size + STREAM_EXTRA_BYTES);
      return;
    }
    this.#expect("header", SEALED_HEADER_BYTES);
    this.#host.pdu(this.#type, plain);
    if (tag === TAG_FINAL) this.#end();
  }

  #end(): void {
    if (this.#phase === "over") return;
    this.stop();
    this.#host.final();
  }
}

/** Small PDUs need little, large ones all of it: an idle connection doesn't hold 128 KiB. */
function roomFor(size: number): number {
  return size <= 1024 ? 1024 : PIPE_BODY_MAX_BYTES + SEALED_HEADER_BYTES + STREAM_EXTRA_BYTES;
}
