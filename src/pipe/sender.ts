/**
 * The sending role of a pipe: sodium-tcp's client (docs/protocols/pipe.md). With the C server it uses stop-and-wait;
 * with a Sallyport receiver it changes to fresh keys, keeps a window of bytes in flight and gets the end confirmed.
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
  encodeClientAuth,
  encodeCount,
  encodeText,
  encodeUpgrade,
  incrementNonce,
  parseAnnouncement,
  parseCount,
  parseReceived,
  parseServerHelo,
  parseWindow,
  PduType,
  printableText,
  SERVER_HELO_BYTES,
} from "../wire/sodium/sodium_pdu.ts";
import { type MessageCipher, StreamMessages } from "./message_cipher.ts";
import { PipeEndpoint, type PipeHost, type PipeOptions, unexpected, upgradeKeys } from "./endpoint.ts";
import { PIPE_BODY_MAX_BYTES } from "../wire/sodium/sodium_pdu.ts";

/** The driver's interface to a {@link PipeSender}. */
interface PipeSenderHost extends PipeHost {
  /** The receiver has answered; `message` is its text, safe to print. Bytes may be sent. */
  ready(message: string, extended: boolean): void;
  /** The receiver confirmed bytes, with the total in `taken`; more may be sent. */
  confirmed(taken: number): void;
  /**
   * Every byte is confirmed; a Sallyport receiver has also confirmed that the transfer is in its final place. The
   * connection should be closed.
   */
  done(): void;
}

/** Options of {@link PipeSender}. */
export interface PipeSenderOptions extends PipeOptions {
  /** The receiver's long-term key, 32 bytes, known in advance. */
  readonly serverPublicKey: Bytes;
  readonly login: string;
  readonly passphrase: string;
  /** Total bytes to send, if known: for the receiver's progress. */
  readonly totalBytes?: number;
}

/** Throws `config_invalid` for an invalid login, passphrase or public key, before anything is dialled. */
export function checkSender(options: PipeSenderOptions): void {
  new PipeSender(options, { write() {}, failed() {}, ready() {}, confirmed() {}, done() {} }, 0);
}

/**
 * The client. Random bytes are drawn in this order: secret key 32, nonce 24, stream header 24.
 */
export class PipeSender extends PipeEndpoint {
  readonly #host: PipeSenderHost;
  readonly #options: PipeSenderOptions;
  readonly #keyPair: KeyPair;
  readonly #nonce: Bytes;
  readonly #keys: SessionKeys;
  readonly #login: Bytes;
  readonly #passphrase: Bytes;
  #fresh: MessageCipher | undefined;
  #state: "handshake" | "upgrading" | "open" | "ending" = "handshake";
  #window = 0;
  #sent = 0;
  #taken = 0;
  #message = "";

  /** Throws `config_invalid` for an invalid login, passphrase or public key. `start` sends the first bytes. */
  constructor(options: PipeSenderOptions, host: PipeSenderHost, nowMs: number) {
    super(options, host, SERVER_HELO_BYTES + SEAL_BYTES, nowMs);
    this.#host = host;
    this.#options = options;
    this.#keyPair = makeKeyPair(this.sodium, this.random);
    this.#nonce = new Uint8Array(24);
    this.random(this.#nonce);
    const keys = options.serverPublicKey.length === 32
      ? this.sodium.clientKeys(this.#keyPair, options.serverPublicKey)
      : undefined;
    if (keys === undefined) {
      throw new SallyportError("config_invalid", "Cannot use the receiver's public key: it is invalid", {
        side: "config",
      });
    }
    this.#keys = keys;
    this.#login = encodeText(options.login, "the login");
    this.#passphrase = encodeText(options.passphrase, "the passphrase");
  }

  /** Sends CLIENT_AUTH. */
  start(): void {
    const streamHeader = new Uint8Array(STREAM_HEADER_BYTES);
    this.random(streamHeader);
    const plain = encodeClientAuth({
      nonce: this.#nonce,
      streamHeader,
      publicKey: this.#keyPair.publicKey,
      login: this.#login,
      passphrase: this.#passphrase,
    });
    this.link.sendUnder(new StreamMessages(this.sodium, this.#keys.tx, streamHeader));
    this.#host.write(this.sodium.sealBox(plain, this.#options.serverPublicKey));
    plain.fill(0);
  }

  /** Bytes that {@link send} accepts now; 0 means wait for `confirmed`. */
  get sendable(): number {
    if (this.over || this.#state !== "open") return 0;
    if (!this.upgraded) return this.#sent === this.#taken ? PIPE_BODY_MAX_BYTES : 0;
    return Math.max(0, Math.min(PIPE_BODY_MAX_BYTES, this.#window - (this.#sent - this.#taken)));
  }

  /** Bytes sent, and how many of those are confirmed. */
  get sentBytes(): number {
    return this.#sent;
  }
  get takenBytes(): number {
    return this.#taken;
  }

  /** Sends 1 to {@link sendable} bytes, which may be reused on return. */
  send(chunk: Bytes): void {
    if (chunk.length === 0 || chunk.length > this.sendable) throw new RangeError("more than may be sent now");
    this.#sent += chunk.length;
    this.link.send(PduType.Data, chunk);
  }

  /** Ends the transfer: `done` follows once everything is confirmed. */
  end(): void {
    if (this.over || this.#state !== "open") return;
    this.#state = "ending";
    if (this.upgraded) this.link.send(PduType.End, encodeCount(this.#sent));
    else this.#finishIfConfirmed();
  }

  override lost(error: SallyportError): void {
    super.lost(this.authenticated ? error : refused(error));
  }

  protected override fail(error: SallyportError): void {
    // In version 1 the connection's end ends the transfer, unless it truncates a PDU.
    if (!this.over && this.authenticated && !this.upgraded) this.link.sendCut();
    super.fail(error);
  }

  protected override get upgraded(): boolean {
    return this.#fresh !== undefined;
  }

  protected override onBox(sealed: Bytes): void {
    const plain = this.sodium.openBox(sealed, this.#keyPair);
    if (plain === undefined) {
      throw new SallyportError("cipher_failed", "Cannot open the receiver's answer", { side: "peer" });
    }
    const helo = parseServerHelo(plain);
    if (!this.sodium.equal(helo.nonce, incrementNonce(this.#nonce))) {
      throw new SallyportError("challenge_failed", "The receiver answered a different nonce", {
        side: "peer",
      });
    }
    this.#message = printableText(helo.message);
    this.link.receiveUnder(new StreamMessages(this.sodium, this.#keys.rx, helo.streamHeader));
    this.established();
    const announced = this.extended ? parseAnnouncement(helo.message) : undefined;
    const fresh = announced && this.sodium.clientKeys(this.#keyPair, announced.publicKey);
    if (announced === undefined || fresh === undefined) {
      this.#state = "open";
      return this.#host.ready(this.#message, false);
    }
    const keys = upgradeKeys(this.sodium, this.#keys, fresh, this.#nonce);
    const aes = announced.aes && this.aeads.aes !== undefined;
    this.link.send(PduType.Upgrade, encodeUpgrade({ totalBytes: this.#options.totalBytes, aes }));
    this.link.sendUnder(this.boxes(keys.tx, aes));
    this.#fresh = this.boxes(keys.rx, aes);
    this.#state = "upgrading";
  }

  protected override onPdu(type: number, body: Bytes): void {
    if (this.#state === "upgrading") {
      if (type !== PduType.Upgraded) throw unexpected(type);
      this.#window = parseWindow(body);
      if (this.#window === 0) {
        throw new SallyportError("frame_invalid", "The receiver's window is empty", { side: "peer" });
      }
      this.link.receiveUnder(this.#fresh!);
      this.#state = "open";
      return this.#host.ready(this.#message, true);
    }
    if (!this.upgraded && type === PduType.Data) return this.#onAnswer(parseReceived(body));
    if (this.upgraded && type === PduType.Taken) return this.#onTaken(parseCount(body));
    if (this.upgraded && type === PduType.Done && this.#state === "ending") {
      if (parseCount(body) !== this.#sent) throw wrongCount();
      this.#taken = this.#sent;
      this.finish();
      return this.#host.done();
    }
    throw unexpected(type);
  }

  protected override onPeerEnd(): void {
    if (!this.authenticated) throw refused();
    throw new SallyportError(
      "connection_lost",
      `The receiver closed after it confirmed ${this.#taken} of ${this.#sent} bytes`,
      { side: "peer", retryable: true },
    );
  }

  #onAnswer(size: number): void {
    if (this.#sent === this.#taken || size !== this.#sent - this.#taken) throw wrongCount();
    this.#taken = this.#sent;
    this.#host.confirmed(this.#taken);
    if (this.#state === "ending") this.#finishIfConfirmed();
  }

  #onTaken(taken: number): void {
    if (taken < this.#taken || taken > this.#sent) throw wrongCount();
    this.#taken = taken;
    this.#host.confirmed(taken);
  }

  #finishIfConfirmed(): void {
    if (this.over || this.#sent !== this.#taken) return;
    this.finish();
    this.#host.done();
  }
}

/** A refusing receiver sends nothing: neither an end nor a reset of the connection gives a reason. */
function refused(cause?: Error): SallyportError {
  return new SallyportError(
    "credential_refused",
    "The receiver closed without an answer: its key, login or passphrase differs, or it is busy",
    { side: "config", cause },
  );
}

function wrongCount(): SallyportError {
  return new SallyportError(
    "frame_invalid",
    "The receiver confirmed a different number of bytes than were sent",
    { side: "peer" },
  );
}
