/**
 * SniTun's pings, as the heartbeat knows them (docs/protocols/snitun.md, Frames).
 *
 * @module
 */
import type { Bytes } from "../../../bytes/bytes.ts";
import { encodePing, type Filler, FrameType, isPing, isPong } from "../../../wire/snitun/snitun_frame.ts";
import type { ControlFrame } from "./sender.ts";

/** A PING frame of either kind. */
export function pingFrame(which: "ping" | "pong", id: Bytes, random: Filler): ControlFrame {
  return { type: FrameType.PING, id, extra: encodePing(which, random) };
}

/** Which of the two a PING frame is; undefined for any other. */
export function pingKind(header: Bytes): "ping" | "pong" | undefined {
  return isPing(header) ? "ping" : isPong(header) ? "pong" : undefined;
}
