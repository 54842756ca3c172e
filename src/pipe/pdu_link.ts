/**
 * One end of a sodium-tcp connection as a stream of PDUs (docs/protocols/pipe.md): a sealed box first, then two
 * messages per PDU. Uses no sockets and no clock.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { TAG_FINAL } from "../crypto/sodium.ts";
import { SallyportError } from "../errors.ts";
import { encodeHeader, parseHeader, PDU_HEADER_BYTES, PduType } from "../wire/sodium/sodium_pdu.ts";
import { MESSAGE_EXTRA_MAX_BYTES, type MessageCipher } from "./message_cipher.ts";
import { PIPE_BODY_MAX_BYTES } from "../wire/sodium/sodium_pdu.ts";

/** The driver of a {@link PduLink}. */
interface PduLinkHost {
  /** Sends bytes; the view is valid during the call. */
  write(bytes: Bytes): void;
  /** The sealed box of the handshake is complete; the view is valid during the call. */
  box(sealed: Bytes): void;
  /** A PDU is complete; `body` is valid during the call. */
  pdu(type: number, body: Bytes): void;
  /** The peer marked its last message (tag FINAL). */
  final(): void;
}

/** Splits a byte stream into messages, opens them, and seals outgoing ones. */
export class PduLink {
  readonly #host: PduLinkHost;
  #phase: "box" | "header" | "body" | "over" = "box";
  /** Length of the expected message, and how much of it is in #pending. */
  #need: number;
  #have = 0;
  #pending: Bytes = new Uint8Array(0);
  #plain: Bytes = new Uint8Array(PDU_HEADER_BYTES);
  #out: Bytes = new Uint8Array(0);
  readonly #header = new Uint8Array(PDU_HEADER_BYTES);
  #type = 0;
  #sealer: MessageCipher | undefined;
  #opener: MessageCipher | undefined;

  /** @param boxBytes length of the peer's sealed box, which comes first. */
  constructor(boxBytes: number, host: PduLinkHost) {
    this.#host = host;
    this.#need = boxBytes;
  }

  /** Whether no incomplete message is pending. */
  get atBoundary(): boolean {
    return this.#phase !== "body" && this.#have === 0;
  }

  /** Seals with this cipher from the next message on. */
  sendUnder(cipher: MessageCipher): void {
    this.#sealer = cipher;
  }

  /** Opens with this cipher from the next message on. Call between two PDUs. */
  receiveUnder(cipher: MessageCipher): void {
    this.#opener = cipher;
    if (this.#phase !== "over") this.#expect("header", PDU_HEADER_BYTES);
  }

  /** Stops receiving and sending. */
  stop(): void {
    this.#phase = "over";
    this.#sealer = undefined;
  }

  /**
   * Handles bytes from the peer, split anywhere. Throws `cipher_failed` if they don't decrypt, `frame_invalid` and
   * `limit_exceeded` if they aren't a PDU; the link is then unusable.
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

  /** Seals and sends one PDU; no effect once stopped. `body` has at most 131,070 bytes. */
  send(type: PduType, body: Bytes): void {
    const sealer = this.#sealer;
    if (sealer === undefined) return;
    if (body.length > PIPE_BODY_MAX_BYTES) throw new RangeError(`a body of ${body.length} bytes is too long`);
    const headerEnd = PDU_HEADER_BYTES + sealer.extraBytes;
    const size = headerEnd + body.length + sealer.extraBytes;
    if (this.#out.length < size) this.#out = new Uint8Array(roomFor(size));
    encodeHeader(type, body.length, this.#header);
    sealer.seal(this.#header, this.#out.subarray(0, headerEnd));
    sealer.seal(body, this.#out.subarray(headerEnd, size));
    this.#host.write(this.#out.subarray(0, size));
  }

  /** Sends the header of a PDU without a body, so that a connection that ends after it didn't end cleanly. */
  sendCut(): void {
    const sealer = this.#sealer;
    if (sealer === undefined) return;
    const sealed = new Uint8Array(PDU_HEADER_BYTES + sealer.extraBytes);
    encodeHeader(PduType.Data, 1, this.#header);
    sealer.seal(this.#header, sealed);
    this.#host.write(sealed);
  }

  #expect(phase: "header" | "body", plainBytes: number): void {
    this.#phase = phase;
    this.#need = plainBytes + this.#opener!.extraBytes;
  }

  #growPending(need: number): void {
    const grown = new Uint8Array(roomFor(need));
    grown.set(this.#pending.subarray(0, this.#have));
    this.#pending = grown;
  }

  #take(message: Bytes): void {
    if (this.#phase === "box") {
      // The handshake sets the state or ends the connection; nothing more is accepted until then.
      this.#host.box(message);
      return;
    }
    const opener = this.#opener!;
    const size = message.length - opener.extraBytes;
    if (this.#plain.length < size) this.#plain = new Uint8Array(roomFor(size));
    const plain = this.#plain.subarray(0, size);
    const tag = opener.open(message, plain);
    if (tag < 0) {
      throw new SallyportError("cipher_failed", "Cannot open a message: it was altered", { side: "peer" });
    }
    if (this.#phase === "header") {
      if (tag === TAG_FINAL) return this.#end();
      const header = parseHeader(plain);
      this.#type = header.type;
      this.#expect("body", header.size);
      return;
    }
    this.#expect("header", PDU_HEADER_BYTES);
    this.#host.pdu(this.#type, plain);
    if (tag === TAG_FINAL) this.#end();
  }

  #end(): void {
    if (this.#phase === "over") return;
    this.stop();
    this.#host.final();
  }
}

/** Buffer size for a message: small PDUs get a small one, so that an idle connection doesn't hold 128 KiB. */
function roomFor(size: number): number {
  return size <= 1024 ? 1024 : PIPE_BODY_MAX_BYTES + PDU_HEADER_BYTES + 2 * MESSAGE_EXTRA_MAX_BYTES;
}
