/**
 * The control stream of a QUIC session: what concerns all streams, and whether the other side is still there.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import type { Role } from "../../crypto/header_cipher.ts";
import { type ErrorCode, SallyportError } from "../../errors.ts";
import { invalidFrame } from "../../protocol/mux/credit/table.ts";
import { Heartbeat, type HeartbeatEvents } from "../../protocol/mux/heartbeat.ts";
import type { MuxClock } from "../../protocol/mux/host.ts";
import {
  CreditFrame,
  decodeCredit,
  decodeReason,
  encodeCreditFrame,
  encodeReason,
  PING_BYTES,
} from "../../wire/credit/credit_frame.ts";
import type { Filler } from "../../wire/snitun/snitun_frame.ts";
import type { QuicPipe } from "./framed_stream.ts";

/** QUIC: control frames that may wait for a peer that doesn't read: some thousands of pongs. */
export const QUIC_CONTROL_MAX_BYTES = 256 * 1024;

/** What a session hears of its control stream. */
export interface QuicControlEvents {
  readonly role: Role;
  /** The peer takes so many bytes more, over all streams. */
  credited(bytes: number): void;
  /** The peer wants no new streams. */
  peerLeaves(code: ErrorCode): void;
  /** The session can't go on. */
  failed(error: SallyportError): void;
}

/** See the module. */
export class QuicControl implements HeartbeatEvents {
  readonly role: Role;
  readonly pipe: QuicPipe;
  readonly heartbeat: Heartbeat;
  readonly #events: QuicControlEvents;
  /** Why this side wants no new streams, and whether it has said so; the peer's own say comes to the same. */
  leaving: SallyportError | undefined;
  #said = false;
  #peerSaid = false;

  constructor(pipe: QuicPipe, clock: MuxClock, random: Filler, events: QuicControlEvents) {
    this.pipe = pipe;
    this.role = events.role;
    this.heartbeat = new Heartbeat(clock, random, this);
    this.#events = events;
  }

  /** Says that no new streams are wanted. */
  goAway(reason: SallyportError): void {
    this.leaving ??= reason;
    if (!this.#said) this.pipe.send(encodeReason(CreditFrame.GOAWAY, 0, reason.code));
    this.#said = true;
  }

  /** Takes a frame of the control stream. Throws `frame_invalid`. */
  frame(type: number, body: Bytes): void {
    switch (type) {
      case CreditFrame.CREDIT:
        return this.#events.credited(decodeCredit(body));
      case CreditFrame.GOAWAY:
        return this.#goingAway(decodeReason(body));
      case CreditFrame.PING:
      case CreditFrame.PONG:
        this.heartbeat.received(type === CreditFrame.PING ? "ping" : "pong", body.slice(0, PING_BYTES));
        return;
      default:
        throw invalidFrame(`the control stream has a frame of type ${type}`);
    }
  }

  sendPing(which: "ping" | "pong", id: Bytes): void {
    const type = which === "ping" ? CreditFrame.PING : CreditFrame.PONG;
    this.pipe.send(encodeCreditFrame(type, 0, id));
    if (this.pipe.bufferedBytes <= QUIC_CONTROL_MAX_BYTES) return;
    const why = "Cannot go on: control frames pile up, the peer doesn't read";
    this.#events.failed(new SallyportError("session_stalled", why, { side: "network", retryable: true }));
  }

  #goingAway(code: ErrorCode): void {
    if (this.#peerSaid) return;
    this.#peerSaid = true;
    const first = this.leaving === undefined;
    const why = `Cannot open stream: the other side goes away: ${code}`;
    this.leaving ??= new SallyportError("shutdown", why, { side: "peer", retryable: true });
    if (first) this.#events.peerLeaves(code);
  }
}
