/**
 * The packets sent and not yet acknowledged: loss detection and probes after RFC 9002, for one packet number space. It
 * doesn't know packet contents, which are in {@link SentPacket}; the host is notified of each packet's fate.
 *
 * @module
 */
import { SallyportError } from "../../../errors.ts";
import type { AckInfo, CongestionControl, LossInfo } from "../congestion/congestion.ts";
import type { AckRanges } from "../../../wire/curve/curve_frame.ts";
import { MAX_ACK_DELAY_MS, type RttEstimate } from "./rtt.ts";

/** State of a sent packet. */
export const Fate = { done: 0, inFlight: 1, lost: 2 } as const;

/** RFC 9002, 6.1.1; doubled each time a packet declared lost is acknowledged after all. */
const PACKET_THRESHOLD = 3;
const PACKET_THRESHOLD_MAX = 64;
/** Maximum packets tracked; nothing is sent beyond it. */
const PACKETS_MAX = 65_536;
/** RFC 9002, 7.6.1. */
const PERSISTENT_PTOS = 3;
/** Packets whose contents a probe resends. */
const PROBE_PACKETS = 2;

/** A sent packet; objects are reused. `stream`…: the first STREAM frame; `others`: further contents. */
export class SentPacket<Part> {
  number = 0;
  sentMs = 0;
  bytes = 0;
  fate: number = Fate.done;
  lostMs = 0;
  /** Highest number acknowledged by an ACK in the packet, −1 without one. */
  acked = -1;
  /** Size of a path MTU probe, else 0. */
  probe = 0;
  part: Part | undefined;
  offset = 0;
  length = 0;
  fin = false;
  others: SentOther<Part>[] | undefined;
}

/** Contents of a packet besides its first STREAM frame. `kind` 0 is another STREAM frame, else a frame's type. */
export interface SentOther<Part> {
  readonly kind: number;
  readonly part: Part | undefined;
  readonly offset: number;
  readonly length: number;
  readonly fin: boolean;
}

/** Notified of each packet's fate. */
export interface RecoveryHost<Part> {
  /** The packet was acknowledged; `late` if it had been declared lost. */
  packetAcked(packet: SentPacket<Part>, late: boolean): void;
  /** The packet was declared lost, or a probe resends it: its contents must be sent again. */
  packetLost(packet: SentPacket<Part>, probe: boolean): void;
}

/** The packets in flight of one connection. */
export class Recovery<Part> {
  readonly #host: RecoveryHost<Part>;
  readonly #control: CongestionControl;
  readonly #rtt: RttEstimate;
  #slots: SentPacket<Part>[] = Array.from({ length: 64 }, () => new SentPacket<Part>());
  /** Numbers below this are forgotten; numbers from `#next` on are unsent. */
  #base = 0;
  #next = 0;
  /** No packet below this is in flight. */
  #flying = 0;
  #largestAcked = -1;
  #inFlightBytes = 0;
  #inFlightPackets = 0;
  #lossAtMs = Infinity;
  #lastSentMs = 0;
  #firstMeasuredMs = Infinity;
  #threshold = PACKET_THRESHOLD;
  ptoCount = 0;
  /** Set by the sender: it was limited by the window. */
  limited = false;
  readonly #ack: AckInfo = {
    nowMs: 0,
    bytes: 0,
    packets: 0,
    largest: 0,
    nextNumber: 0,
    rttMs: NaN,
    inFlightBytes: 0,
    limited: false,
  };
  readonly #loss: LossInfo = { nowMs: 0, bytes: 0, packets: 0, largest: 0, nextNumber: 0, persistent: false };

  constructor(host: RecoveryHost<Part>, control: CongestionControl, rtt: RttEstimate) {
    this.#host = host;
    this.#control = control;
    this.#rtt = rtt;
  }

  get inFlightBytes(): number {
    return this.#inFlightBytes;
  }
  get inFlightPackets(): number {
    return this.#inFlightPackets;
  }
  get nextNumber(): number {
    return this.#next;
  }
  get largestAcked(): number {
    return this.#largestAcked;
  }
  /** No more packets can be tracked for now. */
  get full(): boolean {
    return this.#next - this.#base >= PACKETS_MAX;
  }

  /** Returns an empty record to be filled in for the next packet. */
  begin(): SentPacket<Part> {
    if (this.#next - this.#base >= this.#slots.length) this.#grow();
    const packet = this.#at(this.#next);
    packet.number = this.#next;
    packet.acked = -1;
    packet.probe = 0;
    packet.part = undefined;
    packet.length = 0;
    packet.fin = false;
    packet.others = undefined;
    return packet;
  }

  /** The packet of {@link begin} has been sent. Only ack-eliciting packets count as in flight. */
  sent(packet: SentPacket<Part>, nowMs: number, bytes: number, eliciting: boolean): void {
    this.#next++;
    packet.sentMs = nowMs;
    packet.bytes = bytes;
    packet.fate = eliciting ? Fate.inFlight : Fate.done;
    if (!eliciting) return;
    this.#lastSentMs = nowMs;
    this.#inFlightBytes += bytes;
    this.#inFlightPackets++;
  }

  /** Handles an ACK. Throws `frame_invalid` if it acknowledges an unsent packet. */
  acknowledge(ranges: AckRanges, ackDelayMs: number, nowMs: number): void {
    const largest = ranges.high[0]!;
    if (largest >= this.#next) {
      throw new SallyportError("frame_invalid", "Cannot read packet: it acknowledges what wasn't sent", {
        side: "peer",
      });
    }
    const info = this.#ack;
    info.inFlightBytes = this.#inFlightBytes;
    info.bytes = info.packets = 0;
    info.rttMs = NaN;
    info.largest = -1;
    for (let i = 0; i < ranges.count; i++) {
      const low = Math.max(ranges.low[i]!, this.#base);
      for (let number = ranges.high[i]!; number >= low; number--) {
        this.#ackOne(number, largest, ackDelayMs, nowMs);
      }
      if (ranges.low[i]! <= this.#base) break;
    }
    if (info.largest < 0) return;
    this.#largestAcked = Math.max(this.#largestAcked, largest);
    this.#detect(nowMs);
    if (info.packets > 0) {
      this.ptoCount = 0;
      info.nowMs = nowMs;
      info.nextNumber = this.#next;
      info.limited = this.limited;
      this.#control.onAck(info);
    }
    this.#forget(nowMs);
  }

  #ackOne(number: number, largest: number, ackDelayMs: number, nowMs: number): void {
    const packet = this.#at(number);
    const info = this.#ack;
    if (packet.fate === Fate.done) return;
    const late = packet.fate === Fate.lost;
    if (late) this.#threshold = Math.min(PACKET_THRESHOLD_MAX, 2 * this.#threshold);
    else {
      this.#land(packet);
      info.bytes += packet.bytes;
      info.packets++;
    }
    if (info.largest < 0) {
      info.largest = number;
      if (number === largest) {
        this.#rtt.update(nowMs - packet.sentMs, ackDelayMs);
        info.rttMs = this.#rtt.adjustedMs;
        this.#firstMeasuredMs = Math.min(this.#firstMeasuredMs, nowMs);
      }
    }
    packet.fate = Fate.done;
    this.#host.packetAcked(packet, late);
    packet.part = undefined;
    packet.others = undefined;
  }

  /** When {@link timeout} is due; Infinity for never. */
  get deadlineMs(): number {
    if (this.#lossAtMs < Infinity) return this.#lossAtMs;
    return this.#inFlightPackets === 0 ? Infinity : this.#lastSentMs + this.#rtt.ptoMs(this.ptoCount);
  }

  /** The deadline has passed: reports losses, or returns true if a probe is due, having reported its contents as lost. */
  timeout(nowMs: number): boolean {
    if (nowMs < this.deadlineMs) return false;
    if (this.#lossAtMs < Infinity) {
      this.#detect(nowMs);
      return false;
    }
    this.ptoCount++;
    let count = 0;
    for (let number = this.#flying; number < this.#next && count < PROBE_PACKETS; number++) {
      const packet = this.#at(number);
      if (packet.fate !== Fate.inFlight || packet.probe > 0) continue;
      this.#host.packetLost(packet, true);
      count++;
    }
    return true;
  }

  /** Declares everything in flight lost without a congestion signal: it was sent over another path. */
  abandon(nowMs: number): void {
    for (let number = this.#flying; number < this.#next; number++) {
      const packet = this.#at(number);
      if (packet.fate === Fate.inFlight) this.#giveUp(packet, nowMs);
    }
    this.#lossAtMs = Infinity;
    this.ptoCount = 0;
  }

  #detect(nowMs: number): void {
    this.#lossAtMs = Infinity;
    const delayMs = this.#rtt.lossDelayMs();
    const info = this.#loss;
    info.bytes = info.packets = 0;
    info.persistent = false;
    let firstMs = Infinity;
    let lastMs = -Infinity;
    while (this.#flying < this.#next && this.#at(this.#flying).fate !== Fate.inFlight) this.#flying++;
    for (let number = this.#flying; number <= this.#largestAcked; number++) {
      const packet = this.#at(number);
      if (packet.fate !== Fate.inFlight) continue;
      if (number <= this.#largestAcked - this.#threshold || packet.sentMs + delayMs <= nowMs) {
        // The loss of an MTU probe is a sign of its size, not of congestion.
        if (packet.probe === 0) {
          info.bytes += packet.bytes;
          info.packets++;
          info.largest = number;
          if (packet.sentMs > this.#firstMeasuredMs) {
            firstMs = Math.min(firstMs, packet.sentMs);
            lastMs = Math.max(lastMs, packet.sentMs);
          }
        }
        this.#giveUp(packet, nowMs);
      } else this.#lossAtMs = Math.min(this.#lossAtMs, packet.sentMs + delayMs);
    }
    if (info.packets === 0) return;
    info.nowMs = nowMs;
    info.nextNumber = this.#next;
    const period = PERSISTENT_PTOS * (this.#rtt.smoothedMs + 4 * this.#rtt.variationMs + MAX_ACK_DELAY_MS);
    info.persistent = lastMs - firstMs > period && this.#nothingAcked(firstMs, lastMs);
    this.#control.onLoss(info);
  }

  /** Whether no packet sent between the two times was acknowledged. */
  #nothingAcked(fromMs: number, toMs: number): boolean {
    for (let number = this.#base; number < this.#next; number++) {
      const packet = this.#at(number);
      if (packet.sentMs > toMs) break;
      if (packet.sentMs > fromMs && packet.fate === Fate.done && packet.bytes > 0) return false;
    }
    return true;
  }

  #giveUp(packet: SentPacket<Part>, nowMs: number): void {
    this.#land(packet);
    packet.fate = Fate.lost;
    packet.lostMs = nowMs;
    this.#host.packetLost(packet, false);
  }

  #land(packet: SentPacket<Part>): void {
    this.#inFlightBytes -= packet.bytes;
    this.#inFlightPackets--;
  }

  /** Drops the oldest packets once acknowledged or lost; lost ones are kept for a while, since they may only be late. */
  #forget(nowMs: number): void {
    const lingerMs = 2 * this.#rtt.ptoMs(0);
    const half = PACKETS_MAX / 2;
    while (this.#base < this.#next) {
      const packet = this.#at(this.#base);
      if (packet.fate === Fate.inFlight) break;
      const fresh = packet.fate === Fate.lost && nowMs - packet.lostMs < lingerMs;
      if (fresh && this.#next - this.#base < half) break;
      packet.fate = Fate.done;
      packet.part = undefined;
      packet.others = undefined;
      this.#base++;
    }
    this.#flying = Math.max(this.#flying, this.#base);
  }

  #at(number: number): SentPacket<Part> {
    return this.#slots[number % this.#slots.length]!;
  }

  #grow(): void {
    const old = this.#slots;
    const size = 2 * old.length;
    const slots: SentPacket<Part>[] = new Array(size);
    for (let i = 0; i < size; i++) {
      const number = this.#base + i;
      slots[number % size] = i < old.length ? old[number % old.length]! : new SentPacket<Part>();
    }
    this.#slots = slots;
  }
}
