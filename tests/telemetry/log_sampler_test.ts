import assert from "node:assert/strict";
import { it } from "node:test";
import { LOG_SAMPLE_INTERVAL_MS, LOG_SAMPLE_KINDS_MAX, LogSampler } from "../../src/telemetry/log_sampler.ts";
import { createMemoryNetwork } from "../../src/runtime/memory/memory.ts";
import { type LogLine, recordingLogger } from "../support/tunnel.ts";

function bench(burst?: number) {
  const network = createMemoryNetwork();
  const lines: LogLine[] = [];
  const log = recordingLogger(lines);
  const sampler = new LogSampler({ log, clock: network.clock, ...burst === undefined ? {} : { burst } });
  return { network, lines, sampler, messages: () => lines.splice(0).map(({ message }) => message) };
}

it("LogSampler: writes the first of a kind, counts the others, and writes the count with the next line", async () => {
  const { network, sampler, messages, lines } = bench();
  for (let i = 0; i < 1000; i++) sampler.warn("down", { visitor: `v${i}` }, `Cannot serve ${i}`);
  sampler.info("other", {}, "Another kind");
  assert.deepEqual(messages(), ["Cannot serve 0", "Another kind"]);
  await network.advance(LOG_SAMPLE_INTERVAL_MS);
  sampler.warn("down", { visitor: "last" }, "Cannot serve last");
  assert.deepEqual(lines[0]!.fields, { visitor: "v999", kind: "down", count: 999 });
  assert.equal(lines[0]!.level, "warn");
  assert.deepEqual(messages(), ["999 more in 10 s, the last: Cannot serve 999", "Cannot serve last"]);
});

it("LogSampler: writes what it has counted at flush, and nothing twice", () => {
  const { sampler, messages } = bench(2);
  for (let i = 0; i < 5; i++) sampler.info("kind", {}, `line ${i}`);
  sampler.flush();
  sampler.flush();
  assert.deepEqual(messages(), ["line 0", "line 1", "3 more in 0 s, the last: line 4"]);
});

it("LogSampler: is bounded in kinds", () => {
  const { sampler, messages } = bench();
  for (let i = 0; i < 10 * LOG_SAMPLE_KINDS_MAX; i++) sampler.info(`kind ${i}`, {}, "line");
  assert.equal(messages().length, LOG_SAMPLE_KINDS_MAX + 1);
});
