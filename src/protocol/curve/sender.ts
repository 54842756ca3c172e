/**
 * The send side of a connection: composes packets, schedules them, and handles their fate.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import type { PacketKey } from "./key_schedule.ts";
import {
  DATA_HEAD_BYTES,
  DATAGRAM_MIN_BYTES,
  INIT_HEAD_BYTES,
  READY_HEAD_BYTES,
  writeDataHead,
  writeInitHead,
  writeReadyHead,
} from "../../wire/curve/curve_packet.ts";
import type { Address } from "../../runtime/port.ts";
import type { AckTracker } from "./recovery/acks.ts";
import type { CongestionControl } from "./congestion/congestion.ts";
import { NewReno } from "./congestion/newreno.ts";
import { Vegas } from "./congestion/vegas.ts";
import { TAG_BYTES } from "../../crypto/sodium.ts";
import {
  type AckRanges,
  FrameType,
  FrameWriter,
  writeAck,
  writeClose,
  writeControl,
  writeFixed,
} from "../../wire/curve/curve_frame.ts";
import { MtuSearch } from "./recovery/mtu.ts";
import type { CurveOptions } from "./options.ts";
import { Pacer } from "./congestion/pacer.ts";
import type { PathState } from "./path.ts";
import { Recovery, type RecoveryHost, type SentPacket } from "./recovery/recovery.ts";
import { RttEstimate } from "./recovery/rtt.ts";
import type { CurveStats } from "./stats.ts";
import type { CurveStream } from "./streams/stream.ts";
import type { StreamSet } from "./streams/stream_set.ts";

/** Packet output. */
export interface PacketOut {
  /** A buffer for the next packet, at least as large as the largest datagram; {@link send} sends its first bytes. */
  slot(): Bytes;
  send(size: number, to: Address): void;
}

/** The packet format of a side at a stage of the connection: header and key. */
export interface Envelope {
  readonly key: PacketKey;
  /** Size of the header that {@link write} writes. */
  readonly headBytes: number;
  write(target: Bytes, number: number): void;
}

/** INIT packets. */
export function initEnvelope(key: PacketKey, connectionKey: Bytes, cookie: Bytes): Envelope {
  return {
    key,
    headBytes: INIT_HEAD_BYTES,
    write: (target, number) => void writeInitHead(target, connectionKey, cookie, number),
  };
}

/** READY packets. */
export function readyEnvelope(key: PacketKey, connectionKey: Bytes, ephemeralKey: Bytes): Envelope {
  return {
    key,
    headBytes: READY_HEAD_BYTES,
    write: (target, number) => void writeReadyHead(target, connectionKey, ephemeralKey, number),
  };
}

/** DATA packets. */
export function dataEnvelope(key: PacketKey, id: Bytes): Envelope {
  return {
    key,
    headBytes: DATA_HEAD_BYTES,
    write: (target, number) => void writeDataHead(target, id, number),
  };
}

/** Maximum packets sent per turn, so that a sender also receives. */
const PACKETS_PER_TURN = 64;

/** Dependencies of the sender. */
interface SenderParts {
  readonly options: CurveOptions;
  readonly out: PacketOut;
  readonly envelope: Envelope;
  /** Server: see {@link CurveConnection}. */
  readonly idForPeer: Bytes | undefined;
  readonly acks: AckTracker;
  readonly streams: StreamSet;
  readonly path: PathState;
  readonly stats: CurveStats;
  readonly nowMs: number;
}

/** The send side of one connection. */
export class Sender implements RecoveryHost<CurveStream> {
  readonly rtt = new RttEstimate();
  readonly control: CongestionControl;
  readonly recovery: Recovery<CurveStream>;
  readonly #mtu: MtuSearch;
  readonly #pacer = new Pacer();
  readonly #writer: FrameWriter;
  readonly #parts: SenderParts;
  envelope: Envelope;
  /** Packets to send regardless of the window, with a PING if there is nothing else to send. */
  pings = 0;
  /** When something was last sent. */
  sentMs: number;
  #nowMs: number;
  #paced = false;
  /** Bytes of stream 0 that INIT has carried. */
  #initSent = 0;

  constructor(parts: SenderParts) {
    this.#parts = parts;
    this.envelope = parts.envelope;
    this.sentMs = this.#nowMs = parts.nowMs;
    const Control = parts.options.congestion === "vegas" ? Vegas : NewReno;
    this.control = new Control(DATAGRAM_MIN_BYTES);
    this.recovery = new Recovery(this, this.control, this.rtt);
    this.#mtu = new MtuSearch(parts.options.maxDatagramBytes);
    this.#writer = new FrameWriter(new Uint8Array(parts.options.maxDatagramBytes));
  }

  /** Size of datagrams that the path is known to carry. */
  get datagramBytes(): number {
    return this.#mtu.bytes;
  }

  /** When pacing allows the next packet; Infinity if none is held back. */
  get pacedUntilMs(): number {
    return this.#paced ? this.#pacer.openAtMs() : Infinity;
  }

  /** The peer accepts datagrams up to this size. */
  capDatagram(bytes: number): void {
    this.#mtu.cap(bytes);
  }

  /** The peer's address has changed. The new path is unknown, unless only the port changed. */
  pathMoved(sameHost: boolean, nowMs: number): void {
    this.#nowMs = nowMs;
    this.recovery.ptoCount = 0;
    if (sameHost) return;
    this.recovery.abandon(nowMs);
    this.rtt.reset();
    this.#mtu.reset();
    this.control.setDatagramBytes(this.#mtu.bytes);
    this.control.reset();
  }

  /** A probe time-out: its packets are sent with the next flush. */
  probe(nowMs: number): void {
    this.#parts.stats.probes++;
    this.pings = 2;
    if (this.recovery.ptoCount >= 2 && this.#mtu.fall(nowMs)) this.control.setDatagramBytes(this.#mtu.bytes);
  }

  /** Sends INIT (client, with the beginning of stream 0) or READY. */
  sendHandshake(client: boolean, nowMs: number): void {
    this.#nowMs = nowMs;
    const packet = this.recovery.begin();
    this.#begin(DATAGRAM_MIN_BYTES);
    const { streams, options, idForPeer } = this.#parts;
    const [maxData, maxStreamData, maxStreams] = streams.announced;
    writeControl(
      this.#writer,
      FrameType.params,
      maxData,
      maxStreamData,
      maxStreams,
      options.maxDatagramBytes,
    );
    if (idForPeer !== undefined) writeFixed(this.#writer, FrameType.connectionId, idForPeer);
    this.#ack(packet);
    if (client) {
      streams.control.framesLost(0, this.#initSent, true);
      streams.fill(this.#writer, packet);
      this.#initSent = Math.max(this.#initSent, packet.offset + packet.length);
    }
    this.#writer.padding();
    this.#finish(packet, this.#parts.path.current, true);
  }

  /** Sends CLOSE. */
  sendClose(code: number, reason: string, nowMs: number): void {
    this.#nowMs = nowMs;
    this.#begin(DATAGRAM_MIN_BYTES);
    writeClose(this.#writer, code, reason);
    this.#finish(this.recovery.begin(), this.#parts.path.current, false);
  }

  /** Sends what may be sent. True if there is more, and the next turn may continue at once. */
  flush(nowMs: number): boolean {
    this.#nowMs = nowMs;
    this.#sendPathFrames();
    const { recovery, control } = this;
    const { streams, acks } = this.#parts;
    this.#pacer.update(nowMs, control, this.rtt.smoothedMs, this.#mtu.bytes);
    this.#paced = recovery.limited = false;
    let count = 0;
    let more = false;
    while (this.pings > 0 || streams.sendable) {
      if (this.pings === 0) {
        if (recovery.full) break;
        if (recovery.inFlightBytes + this.#mtu.bytes > control.windowBytes) {
          recovery.limited = true;
          break;
        }
        if (!this.#pacer.open) {
          recovery.limited = this.#paced = true;
          break;
        }
        if (count >= PACKETS_PER_TURN) {
          more = true;
          break;
        }
      }
      count++;
      this.#sendData();
    }
    if (acks.due(nowMs)) this.#sendAck();
    // Regardless of the window: it is one packet per round trip.
    if (this.#mtu.probe(nowMs) > 0) this.#sendMtuProbe(this.#mtu.probe(nowMs));
    return more;
  }

  #begin(size: number): void {
    this.#writer.reset(size - this.envelope.headBytes - TAG_BYTES);
  }

  /** Seals the writer's contents and sends them. */
  #finish(packet: SentPacket<CurveStream>, to: Address, eliciting: boolean): void {
    const { out, stats } = this.#parts;
    const target = out.slot();
    this.envelope.write(target, packet.number);
    const size = this.envelope.key.seal(target, this.envelope.headBytes, this.#writer.written);
    out.send(size, to);
    this.recovery.sent(packet, this.#nowMs, size, eliciting);
    stats.packetsSent++;
    stats.bytesSent += size;
    this.sentMs = this.#nowMs;
    if (eliciting) this.#pacer.spend(size);
  }

  /** Puts an ACK first if there is something new to acknowledge. */
  #ack(packet: SentPacket<CurveStream>): void {
    const { acks } = this.#parts;
    if (!acks.pending || !writeAck(this.#writer, acks.ranges, acks.delayUs(this.#nowMs))) return;
    packet.acked = acks.largest;
    acks.written(false);
  }

  #sendData(): void {
    const packet = this.recovery.begin();
    this.#begin(this.#mtu.bytes);
    this.#ack(packet);
    const filled = this.#parts.streams.fill(this.#writer, packet);
    if (this.pings > 0) {
      this.pings--;
      if (!filled) this.#writer.byte(FrameType.ping);
    }
    this.#finish(packet, this.#parts.path.current, true);
  }

  #sendAck(): void {
    const { acks, path } = this.#parts;
    const packet = this.recovery.begin();
    this.#begin(this.#mtu.bytes);
    if (!writeAck(this.#writer, acks.ranges, acks.delayUs(this.#nowMs))) return;
    packet.acked = acks.largest;
    const ping = acks.written(true);
    if (ping) this.#writer.byte(FrameType.ping);
    this.#finish(packet, path.current, ping);
  }

  #sendMtuProbe(size: number): void {
    const packet = this.recovery.begin();
    packet.probe = size;
    this.#begin(size);
    this.#writer.byte(FrameType.ping);
    this.#writer.padding();
    this.#mtu.sent();
    this.#finish(packet, this.#parts.path.current, true);
  }

  /** Sends challenges and answers in separate packets to their addresses; they aren't retransmitted. */
  #sendPathFrames(): void {
    const { path } = this.#parts;
    for (let answer = path.takeAnswer(); answer !== undefined; answer = path.takeAnswer()) {
      this.#sendPath(FrameType.pathResponse, answer.data, answer.to);
    }
    const bytes = this.envelope.headBytes + TAG_BYTES + 9;
    const challenge = path.challenge(this.#nowMs, bytes, this.rtt.ptoMs(0));
    if (challenge !== undefined) this.#sendPath(FrameType.pathChallenge, challenge.data, challenge.to);
  }

  #sendPath(type: number, data: Bytes, to: Address): void {
    this.#begin(DATAGRAM_MIN_BYTES);
    writeFixed(this.#writer, type, data);
    this.#finish(this.recovery.begin(), to, false);
  }

  // The fate of packets.

  /** Handles the peer's ACK. Throws `frame_invalid`. */
  acknowledge(ranges: AckRanges, delayUs: number, nowMs: number): void {
    this.#nowMs = nowMs;
    this.recovery.acknowledge(ranges, delayUs / 1000, nowMs);
  }

  /** For {@link Recovery}. */
  packetAcked(packet: SentPacket<CurveStream>, late: boolean): void {
    if (late) this.#parts.stats.lateAcks++;
    if (packet.acked >= 0) this.#parts.acks.confirmed(packet.acked);
    if (packet.probe > 0) {
      if (this.#mtu.acked(packet.probe)) this.control.setDatagramBytes(this.#mtu.bytes);
    } else this.#parts.streams.acked(packet);
  }

  /** For {@link Recovery}. */
  packetLost(packet: SentPacket<CurveStream>, probe: boolean): void {
    if (!probe) {
      if (packet.probe > 0) return this.#mtu.lost(this.#nowMs);
      this.#parts.stats.packetsLost++;
    }
    this.#parts.streams.lost(packet);
  }
}
