/**
 * The client's handshake and the connection after it; no IO, no clock (docs/protocols/curve.md, "The handshake").
 *
 * @module
 */
import { type Bytes, sameBytes } from "../../bytes/bytes.ts";
import { SallyportError } from "../../errors.ts";
import type { Address } from "../../runtime/port.ts";
import { CurveConnection, type CurveHandler, type CurveIo } from "./connection.ts";
import { KEY_BYTES, type KeyPair, keyPair, type Sodium } from "../../crypto/sodium.ts";
import { dataEnvelope, initEnvelope } from "./sender.ts";
import { RestartCheck } from "./restart_check.ts";
import { clientFirstKeys, type FirstKeys, type SessionKeys, sessionKeys } from "./key_schedule.ts";
import type { CurveOptions } from "./options.ts";
import {
  type CookiePacket,
  DATA_HEAD_BYTES,
  DATAGRAM_MIN_BYTES,
  HELLO_BYTES,
  ID_BYTES,
  PacketType,
  packetType,
  readCookie,
  writeHello,
} from "../../wire/curve/curve_packet.ts";

/** HELLO and INIT are repeated after this long, then after twice as long, up to the maximum. */
const REPEAT_FIRST_MS = 500;
const REPEAT_MAX_MS = 4_000;
/** Unanswered INITs before the client requests another cookie. */
const INITS_MAX = 3;
/** Cookies processed per HELLO: each costs two curve operations. */
const COOKIES_PER_HELLO = 4;

/** Dependencies of a client. */
interface CurveClientParts {
  readonly crypto: Sodium;
  readonly io: CurveIo;
  readonly options: CurveOptions;
  readonly server: Address;
  /** The server's long-term key, if known; otherwise the first server that answers is trusted. */
  readonly serverKey: Bytes | undefined;
  /** At most 16,448 bytes, with the proof. */
  readonly credential: Bytes;
  /**
   * Returns the rest of the credential once the keys are agreed: `channel` is 32 bytes unique to this connection,
   * `serverKey` is the server's long-term key. Defaults to no rest.
   */
  proof?(channel: Bytes, serverKey: Bytes): Bytes;
  readonly handler: CurveHandler;
  readonly nowMs: number;
  /** The server has answered; the client then waits for {@link CurveClient.proceed}. Without it the client continues. */
  answered?(): void;
  /** The handshake is complete: the server has proved this key, and it may be pinned. */
  serverProved(key: Bytes): void;
}

/** The client's side of one connection. */
export class CurveClient {
  readonly #parts: CurveClientParts;
  readonly #keys: KeyPair;
  /** The connection; it handles the handshake's packets from INIT on. */
  readonly connection: CurveConnection;
  #state: "hello" | "held" | "init" | "open" | "over" = "hello";
  #serverKey: Bytes | undefined;
  #first: FirstKeys | undefined;
  #session: SessionKeys | undefined;
  #wrongKey = false;
  #cookies = 0;
  #inits = 0;
  #repeatMs = REPEAT_FIRST_MS;
  #repeatAtMs: number;
  #helloOwed = true;
  /** The server's COOKIE, until it may be used. */
  #held: CookiePacket | undefined;
  #mayProceed = false;
  readonly #restartCheck = new RestartCheck();

  constructor(parts: CurveClientParts) {
    this.#parts = parts;
    const secret = new Uint8Array(KEY_BYTES);
    parts.io.random.fill(secret);
    this.#keys = keyPair(parts.crypto, secret);
    this.#repeatAtMs = parts.nowMs + REPEAT_FIRST_MS;
    this.connection = new CurveConnection({
      role: "client",
      options: parts.options,
      io: parts.io,
      peer: parts.server,
      // Never used: the first INIT sets its own.
      envelope: { key: undefined as never, headBytes: 0, write: () => {} },
      nowMs: parts.nowMs,
    });
    this.connection.handler = parts.handler;
    this.connection.introduce(parts.credential);
    if (parts.proof === undefined) this.connection.introduced();
  }

  /** The connection id in DATA packets to us, once known. */
  get id(): Bytes | undefined {
    return this.#session?.toClientId;
  }

  /** Handles a received datagram. Packets that aren't for this client are dropped. */
  receive(packet: Bytes, from: Address, nowMs: number): void {
    switch (packetType(packet)) {
      case PacketType.cookie:
        return this.#cookie(packet, nowMs);
      case PacketType.ready:
        return this.#ready(packet, from, nowMs);
      case PacketType.data: {
        const id = this.#session?.toClientId;
        if (this.#state !== "open" || packet.length < DATA_HEAD_BYTES || id === undefined) return;
        for (let i = 0; i < ID_BYTES; i++) if (packet[4 + i] !== id[i]) return;
        this.connection.receive(packet, from, nowMs);
      }
    }
  }

  /** When {@link tick} is due. */
  get deadlineMs(): number {
    if (this.#state === "open") return Math.min(this.#restartCheck.deadlineMs, this.connection.deadlineMs);
    if (this.#state !== "hello" && this.#state !== "init") return this.connection.deadlineMs;
    return this.#helloOwed ? -Infinity : Math.min(this.#repeatAtMs, this.connection.deadlineMs);
  }

  /** Handles deadlines that have passed. */
  tick(nowMs: number): void {
    if (this.#state === "hello" || this.#state === "init") this.#repeat(nowMs);
    this.connection.tick(nowMs);
    if (this.#state === "open") this.#inquire(nowMs);
  }

  /** Sends pending packets. */
  turn(nowMs: number): void {
    if (this.#helloOwed && this.connection.deadlineMs < Infinity) {
      this.#helloOwed = false;
      const { io, server } = this.#parts;
      writeHello(io.slot(), this.#keys.publicKey);
      io.send(HELLO_BYTES, server);
    }
    this.connection.turn(nowMs);
  }

  #repeat(nowMs: number): void {
    if (nowMs < this.#repeatAtMs) return;
    if (this.#wrongKey) return this.#refuseKey();
    this.#repeatMs = Math.min(REPEAT_MAX_MS, 2 * this.#repeatMs);
    this.#repeatAtMs = nowMs + this.#repeatMs;
    if (this.#state === "init" && this.#inits < INITS_MAX) {
      this.#inits++;
      this.connection.sendHandshake();
      return;
    }
    this.#state = "hello";
    this.#cookies = 0;
    this.#helloOwed = true;
  }

  #inquire(nowMs: number): void {
    const next = this.#restartCheck.tick(this.connection, nowMs);
    if (next === "ask") {
      this.#helloOwed = true;
      this.connection.ping();
    } else if (next === "give up") {
      this.#state = "over";
      const why = "Session lost: the edge no longer knows it";
      this.connection.close(
        new SallyportError("connection_lost", why, { side: "peer", retryable: true }),
      );
    }
  }

  #refuseKey(): void {
    this.#state = "over";
    this.#helloOwed = false;
    const why = "its key isn't the pinned one. Either it was given a new key, or someone else is answering";
    this.connection.close(
      new SallyportError("challenge_failed", `Cannot trust edge: ${why}`, { side: "peer" }),
    );
  }

  #cookie(packet: Bytes, nowMs: number): void {
    const read = readCookie(packet);
    if (read === undefined || this.#helloOwed || !sameBytes(read.connectionKey, this.#keys.publicKey)) return;
    if (this.#state === "open" && sameBytes(read.serverKey, this.#serverKey!)) this.#restartCheck.answered();
    if (this.#state !== "hello" || this.#cookies >= COOKIES_PER_HELLO) return;
    const { serverKey } = this.#parts;
    if (serverKey !== undefined && !sameBytes(read.serverKey, serverKey)) {
      // The answer may be forged by an attacker who was faster than the edge; the edge's own may still arrive.
      this.#wrongKey = true;
      return;
    }
    this.#cookies++;
    if (this.#mayProceed || this.#parts.answered === undefined) return this.#init(read, nowMs);
    this.#state = "held";
    this.#held = {
      ...read,
      serverKey: read.serverKey.slice(),
      minuteKey: read.minuteKey.slice(),
      cookie: read.cookie.slice(),
    };
    this.#parts.answered();
  }

  /** Presents the credential to the server that has answered. */
  proceed(nowMs: number): void {
    const held = this.#held;
    this.#mayProceed = true;
    this.#held = undefined;
    if (this.#state !== "held" || held === undefined) return;
    this.#state = "hello";
    this.#init(held, nowMs);
  }

  #init(cookie: CookiePacket, nowMs: number): void {
    const { crypto } = this.#parts;
    this.#serverKey = cookie.serverKey.slice();
    this.#first = clientFirstKeys(crypto, this.#keys, this.#serverKey, cookie.minuteKey);
    if (this.#first === undefined) return;
    this.#wrongKey = false;
    this.#state = "init";
    this.#inits = 1;
    this.#repeatMs = REPEAT_FIRST_MS;
    this.#repeatAtMs = nowMs + REPEAT_FIRST_MS;
    this.connection.setEnvelope(initEnvelope(this.#first.init, this.#keys.publicKey, cookie.cookie.slice()));
    this.connection.sendHandshake();
  }

  #ready(packet: Bytes, from: Address, nowMs: number): void {
    const first = this.#first;
    if (first === undefined || this.#state === "open" || this.#state === "over") return;
    if (packet.length !== DATAGRAM_MIN_BYTES || !sameBytes(packet.subarray(4, 36), this.#keys.publicKey)) {
      return;
    }
    const ephemeral = packet.slice(36, 68);
    const shared = this.#parts.crypto.sharedSecret(this.#keys.secretKey, ephemeral);
    if (shared === undefined) return;
    const session = sessionKeys(this.#parts.crypto, first, shared, ephemeral);
    if (!this.connection.receive(packet, from, nowMs, session.server)) return;
    this.#state = "open";
    this.#session = session;
    const id = this.connection.announcedId ?? session.toServerId;
    this.connection.confirm(dataEnvelope(session.client, id), session.server);
    this.#keys.secretKey.fill(0);
    first.secret.fill(0);
    this.connection.channel = session.channel;
    const { proof } = this.#parts;
    if (proof !== undefined) {
      this.connection.introduce(proof(session.channel, this.#serverKey!));
      this.connection.introduced();
    }
    this.#parts.serverProved(this.#serverKey!);
  }
}
