/** The curve transport's figures and codes: those of its specification (docs/protocols/curve.md). */
import assert from "node:assert/strict";
import { it } from "node:test";
import type { ErrorCode } from "../../../src/errors.ts";
import { codeOfWire, wireCode } from "../../../src/wire/curve/error_number.ts";
import {
  INITIAL_WINDOW_PACKETS,
  WINDOW_MAX_BYTES,
} from "../../../src/protocol/curve/congestion/congestion.ts";
import { ACK_RANGES_MAX, CHALLENGE_BYTES, REASON_MAX_BYTES } from "../../../src/wire/curve/curve_frame.ts";
import {
  curveOptions,
  curvePatience,
  DATAGRAM_MAX_BYTES,
  DEFAULT_CURVE_OPTIONS,
} from "../../../src/protocol/curve/options.ts";
import { PACKET_NUMBER_MAX, REPLAY_WINDOW } from "../../../src/protocol/curve/replay_window.ts";
import { COUNTER_NAMES, CurveStats } from "../../../src/protocol/curve/stats.ts";
import { CONTROL_STREAM_BYTES } from "../../../src/protocol/curve/streams/stream_set.ts";

it("DEFAULT_CURVE_OPTIONS", () => {
  assert.deepEqual(DEFAULT_CURVE_OPTIONS, {
    congestion: "vegas",
    maxDatagramBytes: 1_452,
    keepAliveMs: 5_000,
    idleTimeoutMs: 15_000,
    handshakeTimeoutMs: 15_000,
    firstWindowBytes: 131_072,
    windowBytes: 2_097_152,
    connectionWindowBytes: 50_331_648,
    streamsMax: 4_096,
    sendHighBytes: 1_048_576,
    sendLowBytes: 524_288,
    sendMaxBytes: 12_582_912,
  });
});

it("curveOptions() fills defaults in and brings the size of datagrams inside 1,088 to 16,384", () => {
  assert.deepEqual(curveOptions({ streamsMax: 7 }), { ...DEFAULT_CURVE_OPTIONS, streamsMax: 7 });
  const sizes = [0, 1_087, 1_088, 1_089, 16_383, 16_384, 16_385];
  const brought = sizes.map((maxDatagramBytes) => curveOptions({ maxDatagramBytes }).maxDatagramBytes);
  assert.deepEqual(brought, [1_088, 1_088, 1_088, 1_089, 16_383, 16_384, 16_384]);
});

it("curvePatience() names what is set alone", () => {
  assert.deepEqual(curvePatience(), {});
  assert.deepEqual(curvePatience({ pingIntervalMs: 1 }), { keepAliveMs: 1 });
  assert.deepEqual(curvePatience({ silenceMaxMs: 2 }), { idleTimeoutMs: 2 });
});

it("bounds", () => {
  assert.deepEqual([ACK_RANGES_MAX, REASON_MAX_BYTES, CHALLENGE_BYTES], [64, 256, 8]);
  assert.deepEqual([REPLAY_WINDOW, PACKET_NUMBER_MAX], [8_192, 281_474_976_710_655]);
  assert.deepEqual([CONTROL_STREAM_BYTES, DATAGRAM_MAX_BYTES], [16_448, 16_384]);
  assert.deepEqual([WINDOW_MAX_BYTES, INITIAL_WINDOW_PACKETS], [16_777_216, 10]);
});

it("wireCode() and codeOfWire() have the specification's numbers", () => {
  const numbers: [number, ErrorCode][] = [
    [0, "closed"],
    [1, "aborted"],
    [2, "access_denied"],
    [8, "endpoint_unreachable"],
    [11, "limit_exceeded"],
    [18, "shutdown"],
    [20, "token_expired"],
    [23, "unrecognized_name"],
  ];
  for (const [number, code] of numbers) {
    assert.deepEqual([wireCode(code), codeOfWire(number)], [number, code]);
  }
  assert.deepEqual([wireCode("internal"), wireCode("config_invalid"), codeOfWire(250)], [1, 0, "closed"]);
});

it("CurveStats.add() adds every counter", () => {
  const sum = new CurveStats();
  const one = new CurveStats();
  COUNTER_NAMES.forEach((name, i) => one[name] = i + 1);
  assert.deepEqual(Object.keys(one).sort(), [...COUNTER_NAMES].sort());
  sum.add(one);
  sum.add(one);
  COUNTER_NAMES.forEach((name, i) => assert.equal(sum[name], 2 * (i + 1), name));
});
