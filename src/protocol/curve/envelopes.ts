/**
 * How packets look at each stage: their heads and keys.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import type { PacketKey } from "./key_schedule.ts";
import {
  DATA_HEAD_BYTES,
  INIT_HEAD_BYTES,
  READY_HEAD_BYTES,
  writeDataHead,
  writeInitHead,
  writeReadyHead,
} from "./packet.ts";
import type { Envelope } from "./sender.ts";

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
