/**
 * Liveness of the peer: anything received counts as a sign of life, a silent side sends pings, and a peer that accepts
 * no bytes is given up.
 *
 * @module
 */
import { type Bytes, startsWith } from "../../bytes/bytes.ts";
import { SallyportError } from "../../errors.ts";
import { type Filler, newChannelId } from "../../wire/snitun/snitun_frame.ts";
import type { MuxClock } from "./host.ts";
import { SESSION_WRITE_STALL_MS } from "./queue_limits.ts";

/** A side that has sent or received nothing for this long sends a ping. */
export const PING_INTERVAL_MS = 5_000;
/** A session that receives nothing for this long is ended. */
export const SILENCE_MAX_MS = 15_000;
/** How often streams, visitors and ciphers are checked for being idle. */
export const IDLE_TICK_MS = 30_000;
/** A visitor with no bytes in either direction is closed after 90 to 120 s: found idle at four ticks in a row. */
export const IDLE_TICKS = 4;

/** How soon a session detects that its peer is gone. */
export interface Patience {
  /** Defaults to {@link PING_INTERVAL_MS}. */
  readonly pingIntervalMs?: number;
  /** Defaults to {@link SILENCE_MAX_MS}. */
  readonly silenceMaxMs?: number;
}

/** Output of a {@link Heartbeat}. */
export interface HeartbeatEvents {
  /** Sends a ping or a pong with these 16 bytes. */
  sendPing(which: "ping" | "pong", id: Bytes): void;
}

/** The clocks of one session. An error thrown by a method ends the session. */
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
  /** Time since which the peer has accepted no bytes. */
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

  /** Starts the clocks. Returns when `tick` is due. */
  start(): number {
    this.#heardMs = this.#saidMs = this.#pingedMs = this.#host.nowMs();
    return this.#nextMs();
  }

  /** Bytes were received from the peer. */
  heard(): void {
    this.#heardMs = this.#host.nowMs();
  }

  /** Bytes were written; `goOn` is false if the connection accepts no more. Returns when `tick` is due. */
  said(goOn: boolean): number {
    this.#saidMs = this.#host.nowMs();
    if (!goOn) this.#blockedSinceMs = this.#saidMs;
    return goOn ? Infinity : this.#saidMs + SESSION_WRITE_STALL_MS;
  }

  /** The connection accepts bytes again, so the peer's system has received some. */
  unblocked(): void {
    this.#blockedSinceMs = undefined;
    this.heard();
  }

  /** This side has stopped or resumed reading; while it doesn't read, silence proves nothing. */
  hold(holding: boolean): void {
    if (this.#holding && !holding) this.heard();
    this.#holding = holding;
  }

  /** Answers a ping, or handles the pong to our ping. False for anything else. */
  received(which: "ping" | "pong" | undefined, id: Bytes): boolean {
    if (which === "ping") {
      this.#events.sendPing("pong", id);
    } else if (which === "pong" && this.#pingId !== undefined && startsWith(id, this.#pingId)) {
      this.#pingId = undefined;
      this.rttMs = this.#host.nowMs() - this.#pingedMs;
    } else {
      return false;
    }
    return true;
  }

  /** Throws `pong_missing` or `session_stalled` to end the session. Returns when the next call is due. */
  tick(nowMs: number): number {
    // After this process was suspended, bytes that arrived meanwhile need time to be read.
    if (this.#holding) this.#heardMs = nowMs;
    else if (nowMs - this.#dueMs > this.#pingIntervalMs) {
      this.#heardMs = Math.max(this.#heardMs, nowMs - this.#silenceMaxMs + this.#pingIntervalMs);
    }
    if (nowMs - this.#heardMs >= this.#silenceMaxMs) {
      throw new SallyportError(
        "pong_missing",
        `Session lost: nothing was heard from the peer for ${this.#silenceMaxMs / 1000} s`,
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

  /** Both sides ping when otherwise silent, so a peer whose pongs queue behind its data still hears from us. */
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
