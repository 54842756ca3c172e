/**
 * The edge's side of the sealed handshake, without IO or time (docs/protocols/sealed.md, Handshake). A client that
 * doesn't prove that it knows the edge's public key gets no answer.
 *
 * @module
 */
import { type Bytes, concat } from "../../bytes/bytes.ts";
import { type RandomSource, systemRandom } from "../../crypto/random.ts";
import { KEY_BYTES, type KeyPair, makeKeyPair, type Sodium, TAG_BYTES } from "../../crypto/sodium.ts";
import { type ErrorCode, SallyportError } from "../../errors.ts";
import {
  decodeHello,
  encodeAnswer,
  HELLO_BYTES,
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

/** Sealed: an agent's clock may be wrong by this much; first flights are remembered for twice as long. */
export const SEALED_CLOCK_SKEW_S = 3_600;
/** Sealed: first flights remembered at once in each half of that time; the oldest are forgotten beyond it. */
export const SEALED_FLIGHTS_MAX = 200_000;

const HEAD_END = SALT_BYTES + KEY_BYTES + HELLO_BYTES + TAG_BYTES;

/** First flights already answered. None is answered twice, so a replay looks like any unknown client's bytes. */
export class AnsweredFlights {
  #recent = new Set<string>();
  #older = new Set<string>();
  #rotateAtS = -Infinity;

  /** Records a flight by its salt; false if it was already recorded. */
  add(salt: Bytes, unixSeconds: number): boolean {
    if (unixSeconds >= this.#rotateAtS || this.#recent.size >= SEALED_FLIGHTS_MAX) {
      this.#older = this.#recent;
      this.#recent = new Set();
      // Flights that are too old to be valid needn't be remembered; the clock may be off in either direction.
      this.#rotateAtS = unixSeconds + 2 * SEALED_CLOCK_SKEW_S;
    }
    const id = String.fromCharCode(...salt);
    if (this.#recent.has(id) || this.#older.has(id)) return false;
    this.#recent.add(id);
    return true;
  }
}

/** Options of a {@link SealedEdgeHandshake}. */
interface SealedEdgeOptions {
  readonly sodium: Sodium;
  /** The edge's long-term key. */
  readonly keys: KeyPair;
  readonly answered: AnsweredFlights;
  /** The current time. */
  unixSeconds(): number;
  /** Grants AES-256-GCM in large boxes to agents that ask for it. */
  readonly aes?: boolean;
  /** Source of the salt, the ephemeral secret key and the padding length, in this order. Defaults to the system's. */
  readonly random?: RandomSource;
}

/** Accepts one agent's session. */
export class SealedEdgeHandshake {
  readonly #options: SealedEdgeOptions;
  readonly #flight = new FlightCollector(HEAD_END);
  #es: Bytes | undefined;
  #key: Bytes = new Uint8Array(0);
  #agentKey: Bytes = new Uint8Array(0);
  #aes = false;

  constructor(options: SealedEdgeOptions) {
    this.#options = options;
  }

  /**
   * Handles received bytes. Undefined until the first flight is complete; then the answer to send, and the session's
   * keys. Must not be called again after that.
   *
   * @throws {SallyportError} `unknown_protocol`: it isn't a first flight for this edge. `challenge_failed`: it is, but was
   * altered, replayed, made at another time, or is followed by other bytes. Either way no answer must be sent.
   */
  push(chunk: Bytes): { answer: Bytes; keys: SealedKeys } | undefined {
    let rest = this.#flight.push(chunk);
    const head = this.#flight.head;
    if (this.#es === undefined && head !== undefined) {
      this.#readHead(head);
      rest = this.#flight.push(rest);
    }
    const whole = this.#flight.whole;
    if (this.#es === undefined || whole === undefined) return undefined;
    const { sodium, answered, unixSeconds } = this.#options;
    if (openBox(sodium, this.#key, this.#flight.padding, 1) === undefined) throw refused("it was altered");
    if (rest.length > 0) throw refused("bytes follow it before the answer");
    if (!answered.add(whole.subarray(0, SALT_BYTES), unixSeconds())) throw refused("it was seen before");
    return this.#answer(this.#es, whole);
  }

  #readHead(head: Bytes): void {
    const { sodium, keys } = this.#options;
    const salt = head.subarray(0, SALT_BYTES);
    const masked = head.subarray(SALT_BYTES, SALT_BYTES + KEY_BYTES);
    const agentKey = maskKey(sodium, keys.publicKey, salt, masked);
    const es = sodium.sharedSecret(keys.secretKey, agentKey);
    if (es === undefined) throw stranger();
    this.#key = helloKey(sodium, es, keys.publicKey, salt, agentKey);
    const plain = openBox(sodium, this.#key, head.subarray(SALT_BYTES + KEY_BYTES), 0);
    if (plain === undefined) throw stranger();
    const hello = decodeHello(plain);
    if (hello.version !== SEALED_VERSION) throw refused(`it has version ${hello.version}`, "not_supported");
    const offS = hello.unixSeconds - this.#options.unixSeconds();
    if (Math.abs(offS) > SEALED_CLOCK_SKEW_S) {
      throw refused(`the agent's clock is ${Math.abs(Math.round(offS))} s ${offS > 0 ? "ahead" : "behind"}`);
    }
    if (!this.#flight.expectPadding(hello.paddingBytes)) throw refused("its length is impossible");
    this.#es = es;
    this.#agentKey = agentKey;
    this.#aes = hello.aes && this.#options.aes === true;
  }

  #answer(es: Bytes, first: Bytes): { answer: Bytes; keys: SealedKeys } {
    const { sodium, keys, random = systemRandom } = this.#options;
    const salt = new Uint8Array(SALT_BYTES);
    random.fill(salt);
    const fresh = makeKeyPair(sodium, (into) => random.fill(into));
    const padding = new Uint8Array(2);
    random.fill(padding);
    const paddingBytes = paddingOf(padding[0]!, padding[1]!);
    const head = encodeAnswer({ publicKey: fresh.publicKey, paddingBytes, aes: this.#aes });
    const key = answerKey(sodium, es, first, salt);
    const answer = concat([salt, sealFlight(sodium, key, head, paddingBytes)]);
    const ee = sodium.sharedSecret(fresh.secretKey, this.#agentKey);
    if (ee === undefined) throw stranger();
    return { answer, keys: sessionKeys(sodium, { es, ee }, keys.publicKey, first, answer, this.#aes) };
  }
}

function stranger(): SallyportError {
  return new SallyportError(
    "unknown_protocol",
    "Cannot open session: it doesn't begin with any known protocol",
    {
      side: "peer",
    },
  );
}

function refused(why: string, code: ErrorCode = "challenge_failed"): SallyportError {
  return new SallyportError(code, `Cannot open session: the first flight isn't answered: ${why}`, {
    side: "peer",
  });
}
