/**
 * The handshake of a link between two nodes, without IO (docs/protocols/cluster.md, Links). Both ends prove that they
 * know the cluster's secret, and agree on the lower of their versions.
 *
 * @module
 */
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { type Bytes, concat } from "../bytes/bytes.ts";
import { SallyportError } from "../errors.ts";

/** The newest version of the link protocol that this program supports, and the oldest. */
export const LINK_VERSION = 1;
export const LINK_VERSION_MIN = 1;

const MAGIC = new TextEncoder().encode("SPLK");
const NONCE_BYTES = 32;
const ID_BYTES = 16;
/** Magic, version, node, nonce. */
const HELLO_BYTES = MAGIC.length + 1 + ID_BYTES + NONCE_BYTES;
const PROOF_BYTES = 32;

/** The two ends of a link. */
export type LinkEnd = "dialer" | "acceptor";

/** The result of the handshake. */
export interface LinkAgreement {
  readonly version: number;
  /** The other node's id. */
  readonly peer: string;
  /** Bytes received after the handshake. */
  readonly rest: Bytes;
}

/** One end of the handshake. Send `hello` first, then whatever `push` returns as `send`. */
export class LinkHandshake {
  /** The first message. */
  readonly hello: Bytes;
  readonly #secret: Bytes;
  readonly #channel: Bytes;
  readonly #end: LinkEnd;
  #received: Bytes = new Uint8Array(0);
  #peerHello: Bytes | undefined;

  /**
   * @param node our id: 32 hexadecimal digits
   * @param channel a value known only to the two ends of a sealed connection; the proofs are bound to it
   */
  constructor(end: LinkEnd, node: string, secret: Bytes, channel: Bytes = new Uint8Array(0)) {
    this.#end = end;
    this.#secret = secret;
    this.#channel = channel;
    this.hello = new Uint8Array(HELLO_BYTES);
    this.hello.set(MAGIC);
    this.hello[MAGIC.length] = LINK_VERSION;
    this.hello.set(Uint8Array.from(node.match(/../g) ?? [], (pair) => parseInt(pair, 16)), MAGIC.length + 1);
    this.hello.set(randomBytes(NONCE_BYTES), HELLO_BYTES - NONCE_BYTES);
  }

  /**
   * Takes bytes from the peer. Throws `challenge_failed` if it does not know the secret, `not_supported` if there is no
   * common version, `unknown_protocol` for anything else.
   */
  push(chunk: Bytes): { readonly send?: Bytes; readonly agreement?: LinkAgreement } {
    this.#received = concat([this.#received, chunk]);
    let send: Bytes | undefined;
    if (this.#peerHello === undefined) {
      if (this.#received.length < HELLO_BYTES) return {};
      this.#peerHello = this.#take(HELLO_BYTES);
      this.#judgeHello(this.#peerHello);
      send = this.#proof(this.#end, this.hello, this.#peerHello);
    }
    if (this.#received.length < PROOF_BYTES) return send === undefined ? {} : { send };
    const expected = this.#proof(this.#end === "dialer" ? "acceptor" : "dialer", this.#peerHello, this.hello);
    if (!timingSafeEqual(this.#take(PROOF_BYTES), expected)) {
      throw new SallyportError(
        "challenge_failed",
        "Cannot link nodes: the other node has another cluster key",
        {
          side: "config",
        },
      );
    }
    const version = Math.min(LINK_VERSION, this.#peerHello[MAGIC.length]!);
    const peer = [...this.#peerHello.subarray(MAGIC.length + 1, MAGIC.length + 1 + ID_BYTES)]
      .map((byte) => byte.toString(16).padStart(2, "0")).join("");
    return { ...send === undefined ? {} : { send }, agreement: { version, peer, rest: this.#received } };
  }

  #take(length: number): Bytes {
    const taken = this.#received.slice(0, length);
    this.#received = this.#received.slice(length);
    return taken;
  }

  #judgeHello(hello: Bytes): void {
    if (MAGIC.some((byte, index) => hello[index] !== byte)) {
      throw new SallyportError("unknown_protocol", "Cannot link nodes: the other end isn't a node", {
        side: "peer",
      });
    }
    const version = hello[MAGIC.length]!;
    if (version < LINK_VERSION_MIN) {
      throw new SallyportError(
        "not_supported",
        `Cannot link nodes: the other node speaks version ${version}, this one supports ${LINK_VERSION_MIN} to ${LINK_VERSION}`,
        { side: "config" },
      );
    }
  }

  #proof(end: LinkEnd, own: Bytes, other: Bytes): Bytes {
    return new Uint8Array(
      createHmac("sha256", this.#secret).update(`sallyport link ${end}`).update(own).update(other)
        .update(this.#channel).digest(),
    );
  }
}
