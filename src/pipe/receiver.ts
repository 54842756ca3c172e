/**
 * The receiving role of a pipe: sodium-tcp's server (docs/protocols/pipe.md).
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import {
  type KeyPair,
  makeKeyPair,
  SEAL_BYTES,
  type SessionKeys,
  STREAM_HEADER_BYTES,
} from "../crypto/sodium.ts";
import { SallyportError } from "../errors.ts";
import {
  type Announcement,
  CLIENT_AUTH_BYTES,
  type ClientAuth,
  encodeCount,
  encodeMessage,
  encodeReceived,
  encodeServerHelo,
  encodeText,
  encodeWindow,
  incrementNonce,
  parseClientAuth,
  parseCount,
  parseUpgrade,
  PduType,
  trimText,
} from "../wire/sodium/sodium_pdu.ts";
import { StreamMessages } from "./message_cipher.ts";
import { PipeEndpoint, type PipeHost, type PipeOptions, unexpected, upgradeKeys } from "./endpoint.ts";

/** Receive window for a Sallyport sender: covers a short disk stall at 1 GB/s, and 100 ms of a 500 Mbit/s line. */
export const PIPE_WINDOW_BYTES = 8 * 1024 * 1024;
/**
 * Unconfirmed PDUs held by a receiver, so that a client that doesn't wait for answers can't fill memory with empty
 * ones.
 */
export const PIPE_UNCONFIRMED_PDUS_MAX = 1_024;

/** The driver's interface to a {@link PipeReceiver}. */
interface PipeReceiverHost extends PipeHost {
  /**
   * The client has the right credentials. Returning false still refuses it (a transfer is already in progress); it is
   * closed without an answer.
   */
  admit(): boolean;
  /** The client is a Sallyport end, and is told why if this side gives up; with the transfer's length if known. */
  announced(totalBytes: number | undefined): void;
  /** Bytes of the transfer, valid during the call; {@link PipeReceiver.stored} is called when they are in the sink. */
  data(body: Bytes): void;
  /**
   * The transfer is over; {@link PipeReceiver.finished} is called when the sink is complete. `certain`: the client
   * announced how many bytes there are, and that many arrived. Version 1 has no such mark: the connection's end is the
   * only one.
   */
  ended(certain: boolean): void;
}

/** Options of {@link PipeReceiver}. */
export interface PipeReceiverOptions extends PipeOptions {
  readonly keys: KeyPair;
  readonly login: string;
  readonly passphrase: string;
  /** Text for the client, at most 63 bytes; Defaults to "Welcome.", as in the C program. */
  readonly message?: string;
  /** Maximum transfer size in bytes. Defaults to no limit. */
  readonly maxBytes?: number;
  /** Claims a session's 32-byte id; false when it was claimed before: a replay. May throw a `SallyportError`. */
  claim(id: Bytes): boolean;
}

/**
 * The server. Random bytes are drawn in this order: stream header 24, and if it announces itself (`extended`) secret
 * key 32.
 */
export class PipeReceiver extends PipeEndpoint {
  readonly #host: PipeReceiverHost;
  readonly #options: PipeReceiverOptions;
  readonly #login: Bytes;
  readonly #passphrase: Bytes;
  /** State for the key change, until it has happened. */
  #offer: { readonly pair: KeyPair; readonly auth: ClientAuth; readonly keys: SessionKeys } | undefined;
  #upgraded = false;
  #state: "handshake" | "open" | "ended" = "handshake";
  #received = 0;
  #stored = 0;
  #confirmed = 0;
  /** Version 1: sizes of the DATA PDUs awaiting their answer. */
  readonly #unanswered: number[] = [];

  /** Throws `config_invalid` for an invalid login or passphrase. */
  constructor(options: PipeReceiverOptions, host: PipeReceiverHost, nowMs: number) {
    super(options, host, CLIENT_AUTH_BYTES + SEAL_BYTES, nowMs);
    this.#host = host;
    this.#options = options;
    this.#login = encodeText(options.login, "the login");
    this.#passphrase = encodeText(options.passphrase, "the passphrase");
  }

  /** Bytes received, and how many of those are in the sink. */
  get receivedBytes(): number {
    return this.#received;
  }
  get storedBytes(): number {
    return this.#stored;
  }

  /** `bytes` more of the bytes passed to `data` are in the sink: confirms them to the client. */
  stored(bytes: number): void {
    this.#stored += bytes;
    if (this.#stored > this.#received) throw new RangeError("more stored than received");
    if (!this.upgraded) return this.#answer();
    // An answer per eighth of the window keeps the client sending; the last one needn't wait.
    if (this.#stored - this.#confirmed >= PIPE_WINDOW_BYTES / 8 || this.#stored === this.#received) {
      this.#confirmed = this.#stored;
      this.link.send(PduType.Taken, encodeCount(this.#stored));
    }
  }

  /** The sink is complete and in its final place. */
  finished(): void {
    if (this.over || this.#state !== "ended") return;
    if (this.upgraded) this.link.send(PduType.Done, encodeCount(this.#received));
    this.finish();
  }

  protected override get upgraded(): boolean {
    return this.#upgraded;
  }

  protected override get survivesLoss(): boolean {
    return this.#state === "ended";
  }

  protected override onBox(sealed: Bytes): void {
    const { sodium } = this;
    const plain = sodium.openBox(sealed, this.#options.keys);
    if (plain === undefined) {
      throw new SallyportError(
        "cipher_failed",
        "Cannot open the client's first message: it is for another key",
        { side: "peer" },
      );
    }
    const auth = parseClientAuth(plain);
    // Both are compared, regardless of the first result.
    const login = sodium.equal(trimText(auth.login), this.#login);
    const passphrase = sodium.equal(trimText(auth.passphrase), this.#passphrase);
    plain.fill(0, 96);
    if (!login || !passphrase) {
      throw new SallyportError("credential_refused", "Login or passphrase is wrong", { side: "peer" });
    }
    const keys = sodium.serverKeys(this.#options.keys, auth.publicKey);
    if (keys === undefined) {
      throw new SallyportError("cipher_failed", "The client's key is of low order", { side: "peer" });
    }
    if (!this.#options.claim(sodium.hash(32, plain.subarray(16, 96)))) {
      throw new SallyportError(
        "key_reused",
        "The session was replayed: this client's key has been used before",
        { side: "peer" },
      );
    }
    if (!this.#host.admit()) {
      throw new SallyportError("session_refused", "Another transfer is under way", { side: "local" });
    }

    const streamHeader = new Uint8Array(STREAM_HEADER_BYTES);
    this.random(streamHeader);
    const helo = encodeServerHelo({
      nonce: incrementNonce(auth.nonce),
      streamHeader,
      message: encodeMessage(this.#options.message ?? "Welcome.", this.#announce(auth, keys)),
    });
    this.#host.write(sodium.sealBox(helo, auth.publicKey));
    this.link.sendUnder(new StreamMessages(sodium, keys.tx, streamHeader));
    this.link.receiveUnder(new StreamMessages(sodium, keys.rx, auth.streamHeader));
    this.#state = "open";
    this.established();
  }

  #announce(auth: ClientAuth, keys: SessionKeys): Announcement | undefined {
    if (!this.extended) return undefined;
    const pair = makeKeyPair(this.sodium, this.random);
    this.#offer = { pair, auth, keys };
    return { publicKey: pair.publicKey, aes: this.aeads.aes !== undefined };
  }

  protected override onPdu(type: number, body: Bytes): void {
    if (this.#state !== "open") throw unexpected(type);
    switch (type) {
      case PduType.Data:
        return this.#onData(body);
      case PduType.Upgrade:
        return this.#onUpgrade(body);
      case PduType.End: {
        if (!this.upgraded) throw unexpected(type);
        const total = parseCount(body);
        if (total !== this.#received) {
          throw new SallyportError(
            "frame_invalid",
            `${this.#received} of ${total} bytes arrived`,
            { side: "peer" },
          );
        }
        this.#state = "ended";
        return this.#host.ended(true);
      }
      default:
        throw unexpected(type);
    }
  }

  protected override onPeerEnd(marked: boolean): void {
    if (this.#state === "ended") {
      // Lost before the sink is complete: the confirmation can't be delivered, but the transfer is complete.
      return;
    }
    if (this.#state === "handshake") {
      throw new SallyportError("closed", "The client closed before it authenticated", { side: "peer" });
    }
    if (this.upgraded || (!marked && !this.link.atBoundary)) {
      throw new SallyportError("connection_lost", `The client disconnected after ${this.#received} bytes`, {
        side: "network",
      });
    }
    this.#state = "ended";
    this.#host.ended(marked);
  }

  /** Version 1: answers each DATA PDU whose bytes are in the sink, in order. */
  #answer(): void {
    for (let next; (next = this.#unanswered[0]) !== undefined && this.#confirmed + next <= this.#stored;) {
      this.#unanswered.shift();
      this.#confirmed += next;
      this.link.send(PduType.Data, encodeReceived(next));
    }
  }

  #onData(body: Bytes): void {
    // A Sallyport client may change the keys only before its first byte.
    this.#offer = undefined;
    this.#received += body.length;
    if (this.#tooLong(this.#received)) return;
    if (this.#received - this.#stored > PIPE_WINDOW_BYTES) {
      throw new SallyportError("limit_exceeded", "The client sent more than its window without waiting", {
        side: "peer",
      });
    }
    if (!this.upgraded) {
      if (this.#unanswered.length >= PIPE_UNCONFIRMED_PDUS_MAX) {
        throw new SallyportError("limit_exceeded", "The client didn't wait for answers", { side: "peer" });
      }
      this.#unanswered.push(body.length);
    }
    this.#host.data(body);
    // The sink doesn't report an empty body, and a stop-and-wait client sends nothing more before its answer.
    if (body.length === 0 && !this.upgraded) this.#answer();
  }

  #onUpgrade(body: Bytes): void {
    const offer = this.#offer;
    if (offer === undefined) throw unexpected(PduType.Upgrade);
    this.#offer = undefined;
    const { totalBytes, aes } = parseUpgrade(body);
    const fresh = this.sodium.serverKeys(offer.pair, offer.auth.publicKey);
    if (fresh === undefined) {
      throw new SallyportError("cipher_failed", "The client's key is of low order", { side: "peer" });
    }
    const keys = upgradeKeys(this.sodium, offer.keys, fresh, offer.auth.nonce);
    this.link.receiveUnder(this.boxes(keys.rx, aes));
    this.link.send(PduType.Upgraded, encodeWindow(PIPE_WINDOW_BYTES));
    this.link.sendUnder(this.boxes(keys.tx, aes));
    this.#upgraded = true;
    if (totalBytes === undefined || !this.#tooLong(totalBytes)) this.#host.announced(totalBytes);
  }

  /** Fails a transfer that exceeds the maximum; a Sallyport client is told why. */
  #tooLong(bytes: number): boolean {
    const { maxBytes } = this.#options;
    if (maxBytes === undefined || bytes <= maxBytes) return false;
    const why = `Cannot receive transfer: it exceeds the limit of ${maxBytes} bytes`;
    this.giveUp(new SallyportError("limit_exceeded", why, { side: "local" }));
    return true;
  }
}
