/**
 * The way between two hosts in memory: latency, jitter, bandwidth, loss, and the scissors.
 *
 * @module
 */

import type { VirtualTime } from "./memory_time.ts";

/** What a way does to what goes over it; the same in both directions. */
export interface LinkSettings {
  /** One way, in milliseconds. */
  readonly latencyMs: number;
  /** Up to this much more, drawn anew each time. Streams stay in order. */
  readonly jitterMs: number;
  /** Bandwidth in bytes a second, each direction; Infinity has none. */
  readonly bytesPerSecond: number;
  /** Bytes of one stream direction that may be sent and not yet taken by the receiver: its socket buffers. */
  readonly windowBytes: number;
  /** Streams deliver in pieces of random size up to this. */
  readonly pieceMaxBytes: number;
  /** Share of datagrams that get lost, 0 to 1. */
  readonly datagramLoss: number;
  /** Share of datagrams that arrive twice. */
  readonly datagramDuplicates: number;
  /** Share of datagrams that are held back by up to `reorderMs`. */
  readonly datagramReorder: number;
  /** The longest that a datagram is held back. */
  readonly reorderMs: number;
  /** Datagrams that would wait longer than this for the bandwidth are dropped: the router's queue. */
  readonly queueMs: number;
}

/** A fast, reliable way. */
export const DEFAULT_LINK: LinkSettings = Object.freeze({
  latencyMs: 1,
  jitterMs: 0,
  bytesPerSecond: Infinity,
  windowBytes: 64 * 1024,
  pieceMaxBytes: 16 * 1024,
  datagramLoss: 0,
  datagramDuplicates: 0,
  datagramReorder: 0,
  reorderMs: 10,
  queueMs: 200,
});

/** A connection over a link. */
interface Breakable {
  /** The network breaks it. */
  breakOff(): void;
}

/** Direction of travel: from the host whose name sorts first, or towards it. */
export type Direction = 0 | 1;

/** The way between two hosts, or from a host to itself. */
export class MemoryLink {
  settings: LinkSettings;
  /** The connections over it whose ends haven't both closed. */
  readonly conns: Set<Breakable> = new Set();
  readonly time: VirtualTime;
  readonly random: () => number;
  /** When each direction has put everything on the wire. */
  #wireFreeMs: [number, number] = [0, 0];
  #cut = false;
  /** What arrived while the link was cut; a stream's bytes wait here as they would for retransmission. */
  #held: (() => void)[] = [];

  constructor(time: VirtualTime, random: () => number, settings: LinkSettings) {
    this.time = time;
    this.random = random;
    this.settings = settings;
  }

  /** Puts bytes on the wire and says when they are at the other end. */
  #arrivalMs(direction: Direction, bytes: number): number {
    const { bytesPerSecond, latencyMs, jitterMs } = this.settings;
    const startMs = Math.max(this.time.nowMs, this.#wireFreeMs[direction]);
    const sentMs = startMs + (bytes / bytesPerSecond) * 1000;
    this.#wireFreeMs[direction] = sentMs;
    return sentMs + latencyMs + (jitterMs > 0 ? this.random() * jitterMs : 0);
  }

  /**
   * Carries something reliably: `arrive` is called at the other end, not before `notBeforeMs`, and the time is
   * returned, so that the next piece of the same stream can be kept behind it.
   */
  carry(direction: Direction, bytes: number, notBeforeMs: number, arrive: () => void): number {
    const atMs = Math.max(this.#arrivalMs(direction, bytes), notBeforeMs);
    this.time.at(atMs, () => {
      if (this.#cut || this.#held.length > 0) this.#held.push(arrive);
      else arrive();
    });
    return atMs;
  }

  /** Carries a datagram as a network does. */
  carryDatagram(direction: Direction, bytes: number, arrive: () => void): void {
    const { settings, random, time } = this;
    const chance = (share: number) => share > 0 && random() < share;
    if (this.#cut || this.#wireFreeMs[direction] - time.nowMs > settings.queueMs) return;
    const atMs = this.#arrivalMs(direction, bytes);
    if (chance(settings.datagramLoss)) return;
    const copies = chance(settings.datagramDuplicates) ? 2 : 1;
    for (let i = 0; i < copies; i++) {
      const lateMs = chance(settings.datagramReorder) ? random() * settings.reorderMs : 0;
      time.at(atMs + lateMs, () => {
        if (!this.#cut) arrive();
      });
    }
  }

  /** From now on nothing arrives: streams stall, datagrams are lost. Neither end is told. */
  cut(): void {
    this.#cut = true;
  }

  /** Undoes {@link cut}: streams go on with what they had sent. */
  heal(): void {
    this.#cut = false;
    this.time.soon(() => {
      if (this.#cut) return;
      const held = this.#held;
      this.#held = [];
      for (const arrive of held) arrive();
    });
  }

  /** Breaks every connection over the link, at both ends. */
  reset(): void {
    this.time.soon(() => {
      for (const conn of [...this.conns]) conn.breakOff();
    });
  }
}
