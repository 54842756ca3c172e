/** The multiplexers' figures: those of the reference, and those that the documents promise (docs/reference/limits.md). */
import assert from "node:assert/strict";
import { it } from "node:test";
import {
  CREDIT_SESSION_FIRST_BYTES,
  CREDIT_STREAM_FIRST_BYTES,
  CREDIT_STREAM_WINDOW_BYTES,
} from "../../../src/protocol/mux/credit/windows.ts";
import { CREDIT_FLIGHT_MIN_BYTES } from "../../../src/protocol/mux/credit/sender.ts";
import { HALF_CLOSE_ANSWERED_MS, HALF_CLOSE_GRACE_MS } from "../../../src/protocol/mux/endings.ts";
import {
  IDLE_TICK_MS,
  IDLE_TICKS,
  PING_INTERVAL_MS,
  SILENCE_MAX_MS,
} from "../../../src/protocol/mux/heartbeat.ts";
import {
  DEFAULT_QUEUE_LIMITS,
  FRAME_MAX_SEND_BYTES,
  SESSION_RECEIVE_BUDGET_BYTES,
  SESSION_SEND_BUDGET_BYTES,
  SESSION_WRITE_STALL_MS,
  STREAMS_PER_SESSION_MAX,
} from "../../../src/protocol/mux/queue_limits.ts";
import { SMALL_BYTES } from "../../../src/protocol/mux/ring.ts";
import { CONTROL_FRAMES_QUEUED_MAX, DIRECT_MIN_BYTES } from "../../../src/protocol/mux/session_core.ts";
import {
  FLIGHT_MAX_BYTES,
  FLIGHT_MIN_BYTES,
  FLIGHT_PATIENCE_MS,
  FLIGHT_PROBE_MS,
} from "../../../src/protocol/mux/snitun/flight.ts";
import {
  PAUSE_OVERRUN_BYTES,
  PAUSE_UNSEEN_BYTES,
  THROTTLED_FRAME_BYTES,
} from "../../../src/protocol/mux/snitun/receive_budget.ts";
import { SESSION_HELD_STALL_MS, SESSION_STALL_MS } from "../../../src/protocol/mux/stall_watch.ts";

it("DEFAULT_QUEUE_LIMITS are the reference's", () => {
  assert.deepEqual(DEFAULT_QUEUE_LIMITS, {
    incomingMaxBytes: 68_157_440,
    incomingMaxBytesV0: 268_435_456,
    incomingLowBytes: 524_288,
    incomingHighBytes: 2_097_152,
    outgoingMaxBytes: 12_582_912,
    outgoingLowBytes: 524_288,
    outgoingHighBytes: 1_048_576,
  });
});

it("the credit dialect's first windows are the specification's", () => {
  assert.deepEqual([CREDIT_SESSION_FIRST_BYTES, CREDIT_STREAM_FIRST_BYTES, CREDIT_STREAM_WINDOW_BYTES], [
    1_048_576,
    131_072,
    4_194_304,
  ]);
});

it("a session's bounds", () => {
  assert.deepEqual([SESSION_RECEIVE_BUDGET_BYTES, SESSION_SEND_BUDGET_BYTES, STREAMS_PER_SESSION_MAX], [
    50_331_648,
    134_217_728,
    4_096,
  ]);
  assert.deepEqual([FRAME_MAX_SEND_BYTES, CONTROL_FRAMES_QUEUED_MAX, DIRECT_MIN_BYTES, SMALL_BYTES], [
    65_536,
    16_384,
    4_096,
    2_048,
  ]);
  assert.deepEqual([PAUSE_OVERRUN_BYTES, PAUSE_UNSEEN_BYTES, THROTTLED_FRAME_BYTES], [
    8_388_608,
    25_165_824,
    8_192,
  ]);
});

it("a session's times", () => {
  assert.deepEqual([
    IDLE_TICK_MS,
    IDLE_TICKS,
    SESSION_STALL_MS,
    SESSION_HELD_STALL_MS,
    SESSION_WRITE_STALL_MS,
  ], [
    30_000,
    4,
    10_000,
    1_000,
    90_000,
  ]);
  assert.deepEqual([HALF_CLOSE_GRACE_MS, HALF_CLOSE_ANSWERED_MS], [10_000, 2_000]);
  assert.deepEqual([PING_INTERVAL_MS, SILENCE_MAX_MS], [5_000, 15_000]);
});

it("a flight's bounds", () => {
  assert.deepEqual([FLIGHT_MIN_BYTES, CREDIT_FLIGHT_MIN_BYTES, FLIGHT_MAX_BYTES], [
    98_304,
    262_144,
    33_554_432,
  ]);
  assert.deepEqual([FLIGHT_PROBE_MS, FLIGHT_PATIENCE_MS], [10_000, 1_000]);
});
