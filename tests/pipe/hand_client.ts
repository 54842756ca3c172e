/**
 * A client of a pipe made by hand over the same primitives, to say what ours would never say.
 *
 * @module
 */
import type { Bytes } from "../../src/bytes/bytes.ts";
import { makeKeyPair, type Sodium, STREAM_EXTRA_BYTES } from "../../src/crypto/sodium.ts";
import { encodeHeader, PduType } from "../../src/wire/sodium/sodium_pdu.ts";
import { concat } from "./bench.ts";

/** A client made by hand over the same primitives, to say what ours would never say. */
export class HandClient {
  readonly #state: Bytes;
  readonly first: Bytes;

  constructor(readonly from: Sodium, readonly serverPublicKey: Bytes) {
    const pair = makeKeyPair(from);
    const keys = from.clientKeys(pair, serverPublicKey)!;
    const header = new Uint8Array(24).fill(5);
    this.#state = from.streamState(keys.tx, header);
    this.first = new Uint8Array(352);
    encodeHeader(PduType.ClientAuth, 340, this.first);
    new DataView(this.first.buffer).setUint32(12, 0xdeadcafe);
    this.first.fill(9, 16, 40);
    this.first.set(header, 40);
    this.first.set(pair.publicKey, 64);
    this.first.set(new TextEncoder().encode("name"), 96);
    this.first.set(new TextEncoder().encode("secret"), 224);
  }

  auth(change: (first: Bytes) => void = () => {}): Bytes {
    change(this.first);
    return this.from.sealBox(this.first, this.serverPublicKey);
  }

  seal(plain: Bytes, tag = 0): Bytes {
    const sealed = new Uint8Array(plain.length + STREAM_EXTRA_BYTES);
    this.from.push(this.#state, plain, sealed, tag);
    return sealed;
  }

  header(type: number, size: number, magic = 0xbaadc0de): Bytes {
    const header = new Uint8Array(12);
    encodeHeader(type as PduType, size, header);
    new DataView(header.buffer).setUint32(0, magic);
    return header;
  }

  pdu(type: number, content: Bytes, tag = 0): Bytes {
    return concat([this.seal(this.header(type, content.length)), this.seal(content, tag)]);
  }
}
