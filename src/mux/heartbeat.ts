/**
 * Whether the other side is still there: pings and pongs, idle sessions, peers that take no bytes.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import type { Role } from "../crypto/header_cipher.ts";
import { SallyportError } from "../errors.ts";
import * as limits from "../limits.ts";
import type { MuxHost } from "./host.ts";

/** The clocks of one session. */
export class Heartbeat {
  readonly #pings: boolean;
  readonly #host: MuxHost;
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

  constructor(role: Role, host: MuxHost) {
    this.#pings = role === "agent";
    this.#host = host;
  }

  /** Starts the clocks; says when `tick` is due. */
  start(): number {
    const now = this.#host.nowMs();
    this.#nextIdleTickMs = now + limits.IDLE_TICK_MS;
    if (this.#pings) this.#nextPingMs = now + limits.PING_INTERVAL_MS;
    return Math.min(this.#nextIdleTickMs, this.#nextPingMs);
  }

  /** Remembers a ping that goes out now; says its id. */
  newPing(id: Bytes): Bytes {
    this.#pingSentMs = this.#host.nowMs();
    this.#pingId = id;
    this.#pongDueMs = this.#pingSentMs + limits.PONG_DEADLINE_MS;
    return id;
  }

  /** A pong came; one that answers no ping of ours is passed over. */
  pong(id: Bytes, nowMs: number): void {
    if (this.#pingId === undefined || !id.every((byte, i) => byte === this.#pingId![i])) return;
    this.#pingId = undefined;
    this.#pongDueMs = Infinity;
    this.rttMs = nowMs - this.#pingSentMs;
  }

  /** Throws what ends the session (`pong_missing`, `session_idle`, `session_stalled`); says what is due. */
  tick(nowMs: number): { pingDue: boolean; nextMs: number } {
    if (nowMs >= this.#pongDueMs) {
      throw new SallyportError(
        "pong_missing",
        `Cannot go on: no pong within ${limits.PONG_DEADLINE_MS / 1000} s`,
        {
          side: "network",
          retryable: true,
        },
      );
    }
    const stallEndsMs = (this.blockedSinceMs ?? Infinity) + limits.SESSION_WRITE_STALL_MS;
    if (nowMs >= stallEndsMs) {
      throw new SallyportError("session_stalled", "Cannot go on: the peer has stopped reading", {
        side: "network",
        retryable: true,
      });
    }
    if (nowMs >= this.#nextIdleTickMs) {
      this.#nextIdleTickMs = nowMs + limits.IDLE_TICK_MS;
      this.#idleTicks = this.active ? 0 : this.#idleTicks + 1;
      this.active = false;
      if (this.#idleTicks >= limits.IDLE_TICKS - 1) {
        throw new SallyportError("session_idle", "Cannot go on: no byte either way for 90 s", {
          side: "network",
          retryable: true,
        });
      }
    }
    const pingDue = nowMs >= this.#nextPingMs;
    if (pingDue) this.#nextPingMs = nowMs + limits.PING_INTERVAL_MS;
    const pongDueMs = pingDue ? Math.min(this.#pongDueMs, nowMs + limits.PONG_DEADLINE_MS) : this.#pongDueMs;
    return { pingDue, nextMs: Math.min(this.#nextIdleTickMs, this.#nextPingMs, pongDueMs, stallEndsMs) };
  }
}
