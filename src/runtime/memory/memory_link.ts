/**
 * The link between two in-memory hosts: latency, jitter, bandwidth, loss, and cuts.
 *
 * @module
 */

import type { VirtualTime } from "./memory_time.ts";

/** Settings of a link; the same in both directions. */
export interface LinkSettings {
  /** One-way latency in milliseconds. */
  readonly latencyMs: number;
  /** Maximum extra latency, random for each delivery. Streams stay in order. */
  readonly jitterMs: number;
  /** Bandwidth in bytes per second in each direction; Infinity for no limit. */
  readonly bytesPerSecond: number;
  /** Bytes of one stream direction that may be sent but not yet consumed by the receiver: its socket buffers. */
  readonly windowBytes: number;
  /** Streams deliver pieces of random size up to this. */
  readonly pieceMaxBytes: number;
  /** Fraction of datagrams lost, 0 to 1. */
  readonly datagramLoss: number;
  /** Fraction of datagrams duplicated. */
  readonly datagramDuplicates: number;
  /** Fraction of datagrams delayed by up to `reorderMs`. */
  readonly datagramReorder: number;
  /** Maximum delay of a reordered datagram. */
  readonly reorderMs: number;
  /** Datagrams that would wait longer than this for the bandwidth are dropped: the router's queue. */
  readonly queueMs: number;
}

/** A fast, reliable link. */
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
  /** The network breaks the connection. */
  breakOff(): void;
}

/** Direction: from the host whose name sorts first, or towards it. */
export type Direction = 0 | 1;

/** The link between two hosts, or from a host to itself. */
export class MemoryLink {
  settings: LinkSettings;
  /** Connections on the link that aren't closed at both ends. */
  readonly conns: Set<Breakable> = new Set();
  readonly time: VirtualTime;
  readonly random: () => number;
  /** When each direction's wire becomes free. */
  #wireFreeMs: [number, number] = [0, 0];
  #cut = false;
  /** Arrivals while the link was cut; a stream's bytes wait here as they would for retransmission. */
  #held: (() => void)[] = [];

  constructor(time: VirtualTime, random: () => number, settings: LinkSettings) {
    this.time = time;
    this.random = random;
    this.settings = settings;
  }

  /** Puts bytes on the wire and returns when they arrive. */
  #arrivalMs(direction: Direction, bytes: number): number {
    const { bytesPerSecond, latencyMs, jitterMs } = this.settings;
    const startMs = Math.max(this.time.nowMs, this.#wireFreeMs[direction]);
    const sentMs = startMs + (bytes / bytesPerSecond) * 1000;
    this.#wireFreeMs[direction] = sentMs;
    return sentMs + latencyMs + (jitterMs > 0 ? this.random() * jitterMs : 0);
  }

  /**
   * Delivers reliably: `arrive` is called at the other end, not before `notBeforeMs`. Returns the arrival time, so that
   * the next piece of the same stream can follow it.
   */
  carry(direction: Direction, bytes: number, notBeforeMs: number, arrive: () => void): number {
    const atMs = Math.max(this.#arrivalMs(direction, bytes), notBeforeMs);
    this.time.at(atMs, () => {
      if (this.#cut || this.#held.length > 0) this.#held.push(arrive);
      else arrive();
    });
    return atMs;
  }

  /** Delivers a datagram, subject to loss, duplication and reordering. */
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

  /** Cuts the link: streams stall, datagrams are lost. Neither end is notified. */
  cut(): void {
    this.#cut = true;
  }

  /** Undoes {@link cut}: streams resume with the bytes they had sent. */
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
