/**
 * Whether the other side is still there: what is received counts as life, a side that has nothing to say pings, and a
 * peer that takes no bytes is given up.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { SallyportError } from "../../errors.ts";
import { type Filler, newChannelId } from "../../wire/snitun/snitun_frame.ts";
import type { MuxClock } from "./host.ts";
import { SESSION_WRITE_STALL_MS } from "./queue_limits.ts";

/** A side that has said or heard nothing for this long pings. */
export const PING_INTERVAL_MS = 5_000;
/** A session in which nothing is heard for this long is over. */
export const SILENCE_MAX_MS = 15_000;
/** How often streams, visitors and ciphers are looked at for being idle. */
export const IDLE_TICK_MS = 30_000;
/** A visitor without a byte either way is closed after 90 to 120 s: found idle at four ticks in a row. */
export const IDLE_TICKS = 4;

/** How soon a session finds out that its peer is gone. */
export interface Patience {
  /** {@link PING_INTERVAL_MS} when absent. */
  readonly pingIntervalMs?: number;
  /** {@link SILENCE_MAX_MS} when absent. */
  readonly silenceMaxMs?: number;
}

/** Where a {@link Heartbeat} sends its pings and pongs. */
export interface HeartbeatEvents {
  /** Sends a ping or a pong with these 16 bytes. */
  sendPing(which: "ping" | "pong", id: Bytes): void;
}

/** The clocks of one session. Methods throw what ends it. */
export class Heartbeat {
  readonly #host: MuxClock;
  readonly #random: Filler;
  readonly #events: HeartbeatEvents;
  readonly #pingIntervalMs: number;
  readonly #silenceMaxMs: number;
  #heardMs = 0;
  #saidMs = 0;
  #pingedMs = 0;
  #dueMs = 0;
  #pingId: Bytes | undefined;
  /** Since when the peer takes no bytes. */
  #blockedSinceMs: number | undefined;
  #holding = false;

  rttMs: number | undefined;

  constructor(host: MuxClock, random: Filler, events: HeartbeatEvents, patience: Patience = {}) {
    this.#host = host;
    this.#random = random;
    this.#events = events;
    this.#pingIntervalMs = patience.pingIntervalMs ?? PING_INTERVAL_MS;
    this.#silenceMaxMs = patience.silenceMaxMs ?? SILENCE_MAX_MS;
  }

  /** Starts the clocks; says when `tick` is due. */
  start(): number {
    this.#heardMs = this.#saidMs = this.#pingedMs = this.#host.nowMs();
    return this.#nextMs();
  }

  /** Bytes of the peer have come. */
  heard(): void {
    this.#heardMs = this.#host.nowMs();
  }

  /** Bytes were written; `goOn` is false where the connection takes no more. Says when `tick` is due. */
  said(goOn: boolean): number {
    this.#saidMs = this.#host.nowMs();
    if (!goOn) this.#blockedSinceMs = this.#saidMs;
    return goOn ? Infinity : this.#saidMs + SESSION_WRITE_STALL_MS;
  }

  /** The connection takes bytes again, so the peer's system has taken some. */
  unblocked(): void {
    this.#blockedSinceMs = undefined;
    this.heard();
  }

  /** This side has stopped reading, or reads again: what isn't read can't be heard. */
  hold(holding: boolean): void {
    if (this.#holding && !holding) this.heard();
    this.#holding = holding;
  }

  /** A ping or a pong came: a question is answered, an answer to a ping of ours noted. False for any other answer. */
  received(which: "ping" | "pong" | undefined, id: Bytes): boolean {
    if (which === "ping") {
      this.#events.sendPing("pong", id);
    } else if (which === "pong" && this.#pingId?.every((byte, i) => byte === id[i])) {
      this.#pingId = undefined;
      this.rttMs = this.#host.nowMs() - this.#pingedMs;
    } else {
      return false;
    }
    return true;
  }

  /** Throws what ends the session (`pong_missing`, `session_stalled`); says when it is due. */
  tick(nowMs: number): number {
    // A process that was stopped for a while hears late: what has come meanwhile gets time to be read.
    if (this.#holding) this.#heardMs = nowMs;
    else if (nowMs - this.#dueMs > this.#pingIntervalMs) {
      this.#heardMs = Math.max(this.#heardMs, nowMs - this.#silenceMaxMs + this.#pingIntervalMs);
    }
    if (nowMs - this.#heardMs >= this.#silenceMaxMs) {
      throw new SallyportError(
        "pong_missing",
        `Session lost: nothing was heard of the peer for ${this.#silenceMaxMs / 1000} s`,
        { side: "network", retryable: true },
      );
    }
    if (nowMs >= (this.#blockedSinceMs ?? Infinity) + SESSION_WRITE_STALL_MS) {
      throw new SallyportError("session_stalled", "Session lost: the peer has stopped reading", {
        side: "network",
        retryable: true,
      });
    }
    if (nowMs >= this.#pingDueMs) this.#ping(nowMs);
    return this.#nextMs();
  }

  /** Both sides ping what would otherwise be silent: a peer whose answers queue behind its data still hears of us. */
  get #pingDueMs(): number {
    return Math.max(this.#pingedMs, Math.min(this.#heardMs, this.#saidMs)) + this.#pingIntervalMs;
  }

  #nextMs(): number {
    const stallEndsMs = (this.#blockedSinceMs ?? Infinity) + SESSION_WRITE_STALL_MS;
    return this.#dueMs = Math.min(this.#heardMs + this.#silenceMaxMs, this.#pingDueMs, stallEndsMs);
  }

  #ping(nowMs: number): void {
    this.#pingedMs = nowMs;
    this.#pingId = newChannelId(this.#random);
    this.#events.sendPing("ping", this.#pingId);
  }
}
