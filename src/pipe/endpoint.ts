/**
 * Code common to both roles of a pipe: the handshake's deadline, pings, failures. Inputs are bytes and the time;
 * outputs are bytes, events and the next deadline.
 *
 * @module
 */
import { type Bytes, concat } from "../bytes/bytes.ts";
import { type AeadChoice, SodiumAead } from "../crypto/aead.ts";
import type { SessionKeys, Sodium } from "../crypto/sodium.ts";
import { SallyportError } from "../errors.ts";
import { encodePing, PduType, printableText } from "../wire/sodium/sodium_pdu.ts";
import { Keepalive } from "./keepalive.ts";
import { BoxMessages } from "./message_cipher.ts";
import { PduLink } from "./pdu_link.ts";
import { PIPE_REASON_MAX_BYTES } from "../wire/sodium/sodium_pdu.ts";

/** sodium-tcp: deadline for the client's authentication and the server's answer (spec). */
export const PIPE_AUTH_DEADLINE_MS = 10_000;

/** The driver's interface to either role. */
export interface PipeHost {
  /** Sends bytes to the peer; the view is valid during the call. */
  write(bytes: Bytes): void;
  /** The pipe failed: nothing more is sent or accepted, and the connection must be dropped. Called at most once. */
  failed(error: SallyportError): void;
}

/** Options of both roles. */
export interface PipeOptions {
  readonly sodium: Sodium;
  /** Source of random bytes. Defaults to libsodium's own. */
  readonly random?: (into: Bytes) => void;
  /** The wall clock for pings. Defaults to the system's clock. */
  readonly date?: () => { readonly seconds: number; readonly nanoseconds: number };
  /** Ciphers for Sallyport's own protocol extensions. Default to libsodium's ChaCha20-Poly1305. */
  readonly aeads?: AeadChoice;
  /** Whether to use Sallyport's own protocol extensions. Defaults to true. */
  readonly extended?: boolean;
}

/** One end of a pipe; `PipeSender` and `PipeReceiver` are the roles. */
export abstract class PipeEndpoint {
  protected readonly sodium: Sodium;
  protected readonly random: (into: Bytes) => void;
  protected readonly link: PduLink;
  protected readonly extended: boolean;
  protected readonly aeads: AeadChoice;
  readonly #host: PipeHost;
  readonly #date: () => { readonly seconds: number; readonly nanoseconds: number };
  readonly #authDeadlineMs: number;
  #keepalive: Keepalive | undefined;
  #nowMs: number;
  #over = false;

  constructor(options: PipeOptions, host: PipeHost, boxBytes: number, nowMs: number) {
    this.sodium = options.sodium;
    this.random = options.random ?? options.sodium.randomBytes;
    this.extended = options.extended ?? true;
    const chacha = new SodiumAead(options.sodium);
    this.aeads = options.aeads ?? { small: chacha, chacha, aes: undefined };
    this.#host = host;
    this.#date = options.date ?? systemDate;
    this.#nowMs = nowMs;
    this.#authDeadlineMs = nowMs + PIPE_AUTH_DEADLINE_MS;
    this.link = new PduLink(boxBytes, {
      write: (bytes) => this.#host.write(bytes),
      box: (sealed) => this.onBox(sealed),
      pdu: (type, body) => this.#onPdu(type, body),
      final: () => this.onPeerEnd(true),
    });
  }

  /** Whether it failed or is done. */
  get over(): boolean {
    return this.#over;
  }

  /** Whether both sides are authenticated. */
  get authenticated(): boolean {
    return this.#keepalive !== undefined;
  }

  /** When to call {@link tick}, on the same clock as `nowMs`; `Infinity` when it is over. */
  get deadlineMs(): number {
    if (this.#over) return Infinity;
    return this.#keepalive?.deadlineMs ?? this.#authDeadlineMs;
  }

  /** Handles bytes from the peer, split anywhere; the view is used only during the call. */
  receive(chunk: Bytes, nowMs: number): void {
    if (this.#over) return;
    this.#nowMs = nowMs;
    this.#keepalive?.heard(nowMs);
    this.guard(() => this.link.receive(chunk));
  }

  /** Checks the deadlines. */
  tick(nowMs: number): void {
    if (this.#over) return;
    this.#nowMs = nowMs;
    this.guard(() => {
      if (this.#keepalive === undefined) {
        if (nowMs < this.#authDeadlineMs) return;
        throw new SallyportError("deadline_exceeded", "The peer didn't authenticate within 10 s", {
          side: "peer",
        });
      }
      if (this.#keepalive.tick(nowMs)) this.link.send(PduType.Ping, this.#now());
    });
  }

  /** The peer closed its direction cleanly (FIN). */
  peerEnded(nowMs: number): void {
    if (this.#over) return;
    this.#nowMs = nowMs;
    this.guard(() => this.onPeerEnd(false));
  }

  /** The connection is lost. */
  lost(error: SallyportError): void {
    if (!this.over && !this.survivesLoss) this.fail(error);
  }

  /** Fails with this error, and reports it to a Sallyport peer. */
  giveUp(error: SallyportError): void {
    if (this.#over) return;
    if (this.upgraded) this.link.send(PduType.Failed, reasonOf(error));
    this.fail(error);
  }

  /** Whether both ends are Sallyport's own. */
  protected abstract get upgraded(): boolean;
  protected abstract onBox(sealed: Bytes): void;
  protected abstract onPdu(type: number, body: Bytes): void;
  /** The peer's direction is over; `marked`: by a FINAL tag, which can't be forged. */
  protected abstract onPeerEnd(marked: boolean): void;

  /** Whether the peer has sent everything, so that losing it is no failure. */
  protected get survivesLoss(): boolean {
    return false;
  }

  /** The messages of one direction after the key change. */
  protected boxes(key: Bytes, aes: boolean): BoxMessages {
    const { small, chacha, aes: own } = this.aeads;
    if (aes && own === undefined) {
      throw new SallyportError(
        "frame_invalid",
        "Cannot continue: the peer uses AES-256-GCM, which wasn't offered",
        {
          side: "peer",
        },
      );
    }
    return new BoxMessages({ sodium: this.sodium, small, bulk: aes ? own! : chacha, key });
  }

  protected established(): void {
    this.#keepalive = new Keepalive(this.#nowMs, this.random);
  }

  /** The pipe is done, cleanly. */
  protected finish(): void {
    this.#over = true;
    this.link.stop();
  }

  protected fail(error: SallyportError): void {
    if (this.#over) return;
    this.finish();
    this.#host.failed(error);
  }

  protected guard(run: () => void): void {
    try {
      run();
    } catch (error) {
      if (!(error instanceof SallyportError)) throw error;
      this.fail(error);
    }
  }

  #onPdu(type: number, body: Bytes): void {
    if (this.#over) return;
    switch (type) {
      case PduType.Ping:
        return this.link.send(PduType.Pong, this.#now());
      case PduType.Pong:
        return this.#keepalive?.ponged();
      case PduType.Failed: {
        const reason = printableText(body);
        throw new SallyportError("aborted", `The other side gave up${reason === "" ? "" : `: ${reason}`}`, {
          side: "peer",
        });
      }
      default:
        return this.onPdu(type, body);
    }
  }

  #now(): Bytes {
    const { seconds, nanoseconds } = this.#date();
    return encodePing(seconds, nanoseconds);
  }
}

/** The error for an unexpected PDU. */
export function unexpected(type: number): SallyportError {
  return new SallyportError("frame_invalid", `Cannot continue: unexpected PDU of type ${type}`, {
    side: "peer",
  });
}

/**
 * The keys after a key change between two Sallyport ends. They are derived from both sides' one-time keys, so that a
 * later leak of the server's key decrypts nothing, and from the version 1 keys, which prove that the server has its
 * key.
 *
 * Per direction: BLAKE2b-256, keyed with that direction's version 1 key, of the label, that direction's `crypto_kx` key
 * of client and server one-time keys, and the client's nonce.
 */
export function upgradeKeys(
  sodium: Sodium,
  first: SessionKeys,
  fresh: SessionKeys,
  nonce: Bytes,
): SessionKeys {
  const label = new TextEncoder().encode("sallyport pipe 2");
  const derive = (own: Bytes, key: Bytes): Bytes => sodium.hash(32, concat([label, own, nonce]), key);
  return { rx: derive(fresh.rx, first.rx), tx: derive(fresh.tx, first.tx) };
}

function systemDate(): { seconds: number; nanoseconds: number } {
  const ms = Date.now();
  return { seconds: Math.floor(ms / 1000), nanoseconds: ms % 1000 * 1_000_000 };
}

function reasonOf(error: SallyportError): Bytes {
  return new TextEncoder().encode(error.message.replace(/\s+/g, " ")).subarray(0, PIPE_REASON_MAX_BYTES);
}
