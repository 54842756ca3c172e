/**
 * Whether the other side is still there: pings and pongs, idle sessions, peers that take no bytes.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import type { Role } from "../../crypto/header_cipher.ts";
import { SallyportError } from "../../errors.ts";
import { type Filler, newChannelId } from "../../wire/snitun/snitun_frame.ts";
import type { MuxClock } from "./host.ts";
import { SESSION_WRITE_STALL_MS } from "./queue_limits.ts";

/** The agent pings this often, and the pong must come within PONG_DEADLINE_MS (spec: 50 s and 90 s). */
export const PING_INTERVAL_MS = 50_000;
export const PONG_DEADLINE_MS = 90_000;
/** Sessions and visitors without a byte either way are closed after 90 to 120 s: found idle at four ticks in a row. */
export const IDLE_TICK_MS = 30_000;
export const IDLE_TICKS = 4;

/** Where a {@link Heartbeat} sends its pings and pongs. */
export interface HeartbeatEvents {
  readonly role: Role;
  /** Sends a ping or a pong with these 16 bytes. */
  sendPing(which: "ping" | "pong", id: Bytes): void;
}

/** The clocks of one session. Methods throw what ends it. */
export class Heartbeat {
  readonly #host: MuxClock;
  readonly #random: Filler;
  readonly #events: HeartbeatEvents;
  #idleTicks = 0;
  #nextIdleTickMs = 0;
  #nextPingMs = Infinity;
  #pongDueMs = Infinity;
  #pingSentMs = 0;
  #pingId: Bytes | undefined;

  /** Set whenever a byte goes either way. */
  active = false;
  /** Since when the peer takes no bytes. */
  blockedSinceMs: number | undefined;
  rttMs: number | undefined;

  constructor(host: MuxClock, random: Filler, events: HeartbeatEvents) {
    this.#host = host;
    this.#random = random;
    this.#events = events;
  }

  /** Nothing went either way since the last tick but one. */
  get idle(): boolean {
    return this.#idleTicks > 0;
  }

  /** Starts the clocks; says when `tick` is due. */
  start(): number {
    const now = this.#host.nowMs();
    this.#nextIdleTickMs = now + IDLE_TICK_MS;
    if (this.#events.role === "agent") this.#nextPingMs = now + PING_INTERVAL_MS;
    return Math.min(this.#nextIdleTickMs, this.#nextPingMs);
  }

  /** A ping or a pong came: a question is answered, an answer to a ping of ours noted. False for any other answer. */
  received(which: "ping" | "pong" | undefined, id: Bytes): boolean {
    if (which === "ping") {
      this.#events.sendPing("pong", id);
    } else if (which === "pong" && this.#pingId?.every((byte, i) => byte === id[i])) {
      this.#pingId = undefined;
      this.#pongDueMs = Infinity;
      this.rttMs = this.#host.nowMs() - this.#pingSentMs;
    } else {
      return false;
    }
    return true;
  }

  #ping(nowMs: number): void {
    this.#nextPingMs = nowMs + PING_INTERVAL_MS;
    this.#pingSentMs = nowMs;
    // An unanswered ping keeps its deadline: asking again doesn't make the peer any less silent.
    this.#pongDueMs = Math.min(this.#pongDueMs, nowMs + PONG_DEADLINE_MS);
    this.#pingId = newChannelId(this.#random);
    this.#events.sendPing("ping", this.#pingId);
  }

  /** Throws what ends the session (`pong_missing`, `session_idle`, `session_stalled`); says when it is due. */
  tick(nowMs: number): number {
    if (nowMs >= this.#pongDueMs) {
      throw new SallyportError(
        "pong_missing",
        `Cannot go on: no pong within ${PONG_DEADLINE_MS / 1000} s`,
        {
          side: "network",
          retryable: true,
        },
      );
    }
    const stallEndsMs = (this.blockedSinceMs ?? Infinity) + SESSION_WRITE_STALL_MS;
    if (nowMs >= stallEndsMs) {
      throw new SallyportError("session_stalled", "Cannot go on: the peer has stopped reading", {
        side: "network",
        retryable: true,
      });
    }
    if (nowMs >= this.#nextIdleTickMs) {
      this.#nextIdleTickMs = nowMs + IDLE_TICK_MS;
      this.#idleTicks = this.active ? 0 : this.#idleTicks + 1;
      this.active = false;
      if (this.#idleTicks >= IDLE_TICKS - 1) {
        throw new SallyportError("session_idle", "Cannot go on: no byte either way for 90 s", {
          side: "network",
          retryable: true,
        });
      }
    }
    if (nowMs >= this.#nextPingMs) this.#ping(nowMs);
    return Math.min(this.#nextIdleTickMs, this.#nextPingMs, this.#pongDueMs, stallEndsMs);
  }
}
