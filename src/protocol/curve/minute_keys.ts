/**
 * The server's minute keys: they seal cookies, and their key pair is the server's share in INIT's keys. Only the current
 * and the previous minute's are kept, so a cookie is valid for one to two minutes without stored state.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import type { RandomSource } from "../../crypto/random.ts";
import type { Address } from "../../runtime/port.ts";
import { KEY_BYTES, type KeyPair, keyPair, NONCE_BYTES, type Sodium } from "../../crypto/sodium.ts";
import { COOKIE_BYTES } from "../../wire/curve/curve_packet.ts";

/** How long a minute key seals cookies; it opens them for as long again. */
export const MINUTE_MS = 60_000;

const COUNTER_BYTES = 8;
const TIME_BYTES = 8;
const AD_BYTES = KEY_BYTES + 16 + 2;

interface Minute {
  readonly sealKey: Bytes;
  readonly pair: KeyPair;
}

/** A verified cookie. */
interface OpenedCookie {
  /** The key pair that the COOKIE offered. */
  readonly minute: KeyPair;
  readonly issuedAtMs: number;
}

/** The current and the previous minute's keys. Times are milliseconds of one monotonic clock. */
export class MinuteKeys {
  readonly #crypto: Sodium;
  readonly #random: RandomSource;
  #current: Minute;
  #last: Minute | undefined;
  #rotateAtMs: number;
  #counter = 0;
  readonly #worker: number;
  readonly #ad = new Uint8Array(AD_BYTES);
  readonly #nonce = new Uint8Array(NONCE_BYTES);
  readonly #time = new Uint8Array(TIME_BYTES);

  /** @param worker names this process in its cookies, where several share a port */
  constructor(crypto: Sodium, random: RandomSource, nowMs: number, worker = 0) {
    this.#crypto = crypto;
    this.#worker = worker;
    this.#random = random;
    this.#current = this.#draw();
    this.#rotateAtMs = nowMs + MINUTE_MS;
  }

  /** When {@link rotate} is due. */
  get rotateAtMs(): number {
    return this.#rotateAtMs;
  }

  /** Rotates the keys if due; true if they changed. After a long pause both are new. */
  rotate(nowMs: number): boolean {
    if (nowMs < this.#rotateAtMs) return false;
    if (this.#last !== undefined) wipe(this.#last);
    this.#last = this.#current;
    this.#current = this.#draw();
    if (nowMs >= this.#rotateAtMs + MINUTE_MS) {
      wipe(this.#last);
      this.#last = undefined;
    }
    this.#rotateAtMs = nowMs + MINUTE_MS;
    return true;
  }

  /** The public key for a COOKIE made now. */
  get publicKey(): Bytes {
    return this.#current.pair.publicKey;
  }

  /** Writes a cookie for this connection key and address into `cookie` (32 bytes). No curve operation. */
  seal(cookie: Bytes, connectionKey: Bytes, from: Address, nowMs: number): void {
    const view = new DataView(cookie.buffer, cookie.byteOffset, COOKIE_BYTES);
    view.setBigUint64(0, BigInt(this.#counter++));
    view.setUint16(0, this.#worker);
    new DataView(this.#time.buffer).setFloat64(0, nowMs);
    this.#prepare(cookie, connectionKey, from);
    this.#crypto.seal(
      this.#time,
      cookie.subarray(COUNTER_BYTES),
      this.#nonce,
      this.#current.sealKey,
      this.#ad,
    );
  }

  /** Opens a cookie; undefined if it is forged, expired, or from another server, connection or address. */
  open(cookie: Bytes, connectionKey: Bytes, from: Address): OpenedCookie | undefined {
    if (cookie.length !== COOKIE_BYTES) return undefined;
    this.#prepare(cookie, connectionKey, from);
    for (const minute of [this.#current, this.#last]) {
      if (minute === undefined) continue;
      const sealed = cookie.subarray(COUNTER_BYTES);
      if (this.#crypto.open(sealed, this.#time, this.#nonce, minute.sealKey, this.#ad)) {
        return { minute: minute.pair, issuedAtMs: new DataView(this.#time.buffer).getFloat64(0) };
      }
    }
    return undefined;
  }

  #prepare(cookie: Bytes, connectionKey: Bytes, from: Address): void {
    this.#nonce.fill(0, 0, 4);
    this.#nonce.set(cookie.subarray(0, COUNTER_BYTES), 4);
    this.#ad.set(connectionKey);
    writeHost(this.#ad.subarray(KEY_BYTES, KEY_BYTES + 16), from.host);
    this.#ad[AD_BYTES - 2] = from.port >> 8;
    this.#ad[AD_BYTES - 1] = from.port;
  }

  #draw(): Minute {
    const sealKey = new Uint8Array(KEY_BYTES);
    const secretKey = new Uint8Array(KEY_BYTES);
    this.#random.fill(sealKey);
    this.#random.fill(secretKey);
    return { sealKey, pair: keyPair(this.#crypto, secretKey) };
  }
}

function wipe(minute: Minute): void {
  minute.sealKey.fill(0);
  minute.pair.secretKey.fill(0);
}

/** Writes an address as 16 bytes; IPv4 is mapped, an IPv6 scope is omitted. */
function writeHost(target: Bytes, host: string): void {
  target.fill(0);
  if (!host.includes(":")) {
    target[10] = 0xff;
    target[11] = 0xff;
    let at = 12;
    let value = 0;
    for (let i = 0; i <= host.length && at < 16; i++) {
      const code = i === host.length ? 46 : host.charCodeAt(i);
      if (code === 46) {
        target[at++] = value;
        value = 0;
      } else value = value * 10 + (code - 48);
    }
    return;
  }
  const percent = host.indexOf("%");
  const [head, tail] = (percent < 0 ? host : host.slice(0, percent)).split("::") as [
    string,
    string | undefined,
  ];
  const front = head === "" ? [] : head.split(":");
  const back = tail === undefined || tail === "" ? [] : tail.split(":");
  write(front, 0);
  write(back, 8 - back.length);
  function write(groups: string[], from: number): void {
    for (let i = 0; i < groups.length && from + i < 8; i++) {
      const value = parseInt(groups[i]!, 16);
      target[2 * (from + i)] = value >> 8;
      target[2 * (from + i) + 1] = value;
    }
  }
}
