/**
 * The agent's side of the sealed handshake, without IO or time (docs/protocols/sealed.md, Handshake).
 *
 * @module
 */
import { type Bytes, concat } from "../../bytes/bytes.ts";
import { type RandomSource, systemRandom } from "../../crypto/random.ts";
import { KEY_BYTES, type KeyPair, makeKeyPair, type Sodium, TAG_BYTES } from "../../crypto/sodium.ts";
import { SallyportError } from "../../errors.ts";
import {
  ANSWER_BYTES,
  decodeAnswer,
  encodeHello,
  mayComeFirst,
  paddingOf,
  SEALED_VERSION,
} from "../../wire/sealed/sealed_messages.ts";
import { FlightCollector } from "./sealed_flight.ts";
import {
  answerKey,
  helloKey,
  maskKey,
  openBox,
  SALT_BYTES,
  type SealedKeys,
  sealFlight,
  sessionKeys,
} from "./sealed_keys.ts";

/** Options of {@link SealedAgentHandshake}. */
interface SealedAgentOptions {
  readonly sodium: Sodium;
  /** The edge's public key, obtained from the session master or the operator. */
  readonly edgePublicKey: Bytes;
  /** The current time, from the best clock available. */
  readonly unixSeconds: number;
  /** Requests AES-256-GCM for large boxes. */
  readonly aes?: boolean;
  /** Source of the salt, the ephemeral secret key and the padding length, in this order. Defaults to the system's. */
  readonly random?: RandomSource;
}

/** Opens one session. */
export class SealedAgentHandshake {
  /** The first flight to send. */
  readonly first: Bytes;
  readonly #sodium: Sodium;
  readonly #edgePublicKey: Bytes;
  readonly #own: KeyPair;
  readonly #es: Bytes;
  #answerKey: Bytes = new Uint8Array(0);
  readonly #flight = new FlightCollector(SALT_BYTES + ANSWER_BYTES + TAG_BYTES);
  #edgeKey: Bytes | undefined;
  readonly #asksForAes: boolean;
  #aes = false;

  /** @throws {SallyportError} `config_invalid`: the edge's public key is invalid. */
  constructor(options: SealedAgentOptions) {
    const { sodium, edgePublicKey, random = systemRandom } = options;
    this.#sodium = sodium;
    this.#edgePublicKey = edgePublicKey;
    this.#asksForAes = options.aes ?? false;
    const salt = new Uint8Array(SALT_BYTES);
    do random.fill(salt); while (!mayComeFirst(salt[0]!));
    this.#own = makeKeyPair(sodium, (into) => random.fill(into));
    const padding = new Uint8Array(2);
    random.fill(padding);
    const es = edgePublicKey.length === KEY_BYTES
      ? sodium.sharedSecret(this.#own.secretKey, edgePublicKey)
      : undefined;
    if (es === undefined) {
      throw new SallyportError("config_invalid", "Cannot open session: the edge's public key is invalid", {
        side: "config",
      });
    }
    this.#es = es;
    const paddingBytes = paddingOf(padding[0]!, padding[1]!);
    const hello = encodeHello({
      version: SEALED_VERSION,
      paddingBytes,
      unixSeconds: options.unixSeconds,
      aes: options.aes ?? false,
    });
    const key = helloKey(sodium, es, edgePublicKey, salt, this.#own.publicKey);
    this.first = concat([
      salt,
      maskKey(sodium, edgePublicKey, salt, this.#own.publicKey),
      sealFlight(sodium, key, hello, paddingBytes),
    ]);
  }

  /**
   * Handles bytes from the edge. Undefined until its answer is complete; then the session's keys and `rest`, the part of
   * `chunk` after the answer, which contains records. Must not be called again after that.
   *
   * @throws {SallyportError} `challenge_failed`: the answer wasn't made with the edge's key.
   */
  push(chunk: Bytes): { keys: SealedKeys; rest: Bytes } | undefined {
    let rest = this.#flight.push(chunk);
    const head = this.#flight.head;
    if (this.#edgeKey === undefined && head !== undefined) {
      this.#answerKey = answerKey(this.#sodium, this.#es, this.first, head.subarray(0, SALT_BYTES));
      const plain = openBox(this.#sodium, this.#answerKey, head.subarray(SALT_BYTES), 0);
      if (plain === undefined) throw failed("the answer isn't sealed with the key of the edge");
      const { publicKey, paddingBytes, aes } = decodeAnswer(plain);
      if (aes && !this.#asksForAes) throw failed("the answer grants something that wasn't requested");
      this.#aes = aes;
      if (!this.#flight.expectPadding(paddingBytes)) throw failed("the answer's length is impossible");
      this.#edgeKey = publicKey;
      rest = this.#flight.push(rest);
    }
    const whole = this.#flight.whole;
    if (this.#edgeKey === undefined || whole === undefined) return undefined;
    if (openBox(this.#sodium, this.#answerKey, this.#flight.padding, 1) === undefined) {
      throw failed("the answer's padding was altered");
    }
    const ee = this.#sodium.sharedSecret(this.#own.secretKey, this.#edgeKey);
    if (ee === undefined) throw failed("the edge's ephemeral key is invalid");
    const secrets = { es: this.#es, ee };
    return {
      keys: sessionKeys(this.#sodium, secrets, this.#edgePublicKey, this.first, whole, this.#aes),
      rest,
    };
  }
}

function failed(why: string): SallyportError {
  return new SallyportError("challenge_failed", `Cannot open session: ${why}`, { side: "peer" });
}
