/**
 * Settings: memory, logs, pings, and SniTun's queue limits.
 *
 * @module
 */
import { LOG_LEVELS } from "../../telemetry/log.ts";
import { optional, queueFigure, setting } from "../setting.ts";
import * as value from "../values.ts";
import { DEFAULT_QUEUE_LIMITS } from "../../protocol/mux/queue_limits.ts";

/** Memory, logs, pings, and SniTun's queue limits. */
export const TUNING = {
  memoryLimit: optional({
    flag: "memory-limit",
    placeholder: "SIZE",
    description:
      "Memory limit of the process including its workers, such as 1GiB; at least 384MiB. When queued bytes would " +
      "exceed it, the stream with the largest queue is ended. Default: half of the memory of the cgroup or the " +
      "machine.",
    commands: ["serve", "edge", "agent", "demo"],
    schema: value.memoryLimit,
  }),
  logLevel: setting({
    flag: "log-level",
    placeholder: "LEVEL",
    default: "info",
    description: "Minimum level of log messages on standard error: debug, info, warn, error or silent.",
    commands: ["serve", "edge", "master", "agent", "demo"],
    schema: value.oneOf(LOG_LEVELS),
  }),
  logFormat: setting({
    flag: "log-format",
    placeholder: "FORMAT",
    default: "text",
    description: "Format of log messages: text for people, json for programs.",
    commands: ["serve", "edge", "master", "agent", "demo"],
    schema: value.oneOf(["text", "json"]),
  }),
  pingInterval: setting({
    flag: "ping-interval",
    placeholder: "TIME",
    default: "5s",
    description: "A side pings when it has sent or received nothing for this time.",
    commands: ["serve", "edge", "agent"],
    schema: value.duration(1_000, 600_000),
  }),
  pingTimeout: setting({
    flag: "ping-timeout",
    placeholder: "TIME",
    default: "15s",
    description: "A session ends when nothing has been received for this time.",
    commands: ["serve", "edge", "agent"],
    schema: value.duration(2_000, 3_600_000),
  }),
  incomingMaxBytes: queueFigure(
    "INCOMING_QUEUE_MAX_BYTES_CHANNEL",
    DEFAULT_QUEUE_LIMITS.incomingMaxBytes,
    "Maximum unread bytes of a stream; beyond it the stream is closed.",
  ),
  incomingMaxBytesV0: queueFigure(
    "INCOMING_QUEUE_MAX_BYTES_CHANNEL_V0",
    DEFAULT_QUEUE_LIMITS.incomingMaxBytesV0,
    "The same for protocol version 0, which can't pause its sender.",
  ),
  incomingLowBytes: queueFigure(
    "INCOMING_QUEUE_LOW_WATERMARK",
    DEFAULT_QUEUE_LIMITS.incomingLowBytes,
    "A paused sender of a stream may continue when its unread bytes fall to this number.",
  ),
  incomingHighBytes: queueFigure(
    "INCOMING_QUEUE_HIGH_WATERMARK",
    DEFAULT_QUEUE_LIMITS.incomingHighBytes,
    "A stream's sender is paused when its unread bytes reach this number.",
  ),
  outgoingMaxBytes: queueFigure(
    "OUTGOING_QUEUE_MAX_BYTES_CHANNEL",
    DEFAULT_QUEUE_LIMITS.outgoingMaxBytes,
    "Maximum queued bytes of a stream; beyond it the stream is reset.",
  ),
  outgoingLowBytes: queueFigure(
    "OUTGOING_QUEUE_LOW_WATERMARK",
    DEFAULT_QUEUE_LIMITS.outgoingLowBytes,
    "The socket that feeds a stream is read again when the stream's queued bytes fall to this number.",
  ),
  outgoingHighBytes: queueFigure(
    "OUTGOING_QUEUE_HIGH_WATERMARK",
    DEFAULT_QUEUE_LIMITS.outgoingHighBytes,
    "The socket that feeds a stream isn't read when the stream's queued bytes reach this number.",
  ),
};
