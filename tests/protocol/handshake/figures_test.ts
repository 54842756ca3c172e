/** The sealed transport's figures: those of its specification (docs/protocols/sealed.md). */
import assert from "node:assert/strict";
import { it } from "node:test";
import { SEALED_CLOCK_SKEW_S, SEALED_FLIGHTS_MAX } from "../../../src/protocol/handshake/sealed_edge.ts";
import { SEALED_ANSWER_DEADLINE_MS } from "../../../src/protocol/handshake/sealed_flight.ts";
import { CHALLENGE_DEADLINE_MS } from "../../../src/protocol/handshake/snitun_challenge.ts";
import { SEALED_PADDED_RECORDS } from "../../../src/protocol/records/sealed_records.ts";

it("deadlines: an answer and a login have 10 s, SniTun's challenge 60 s", () => {
  assert.deepEqual([SEALED_ANSWER_DEADLINE_MS, CHALLENGE_DEADLINE_MS], [10_000, 60_000]);
});

it("first flights: an hour of clock skew, 200,000 remembered in each half", () => {
  assert.deepEqual([SEALED_CLOCK_SKEW_S, SEALED_FLIGHTS_MAX], [3_600, 200_000]);
});

it("padding: the first eight records of each direction", () => {
  assert.equal(SEALED_PADDED_RECORDS, 8);
});
