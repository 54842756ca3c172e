import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { formatBytes } from "../../src/bytes/format_bytes.ts";
import { estimateMs, formatDuration, formatProgress, ProgressMeter } from "../../src/pipe/progress.ts";

describe("formatProgress and ProgressMeter", () => {
  it("writes sizes in powers of 1000", () => {
    const sizes = [0, 999, 1000, 1_500_000, 999_949, 999_950, 4e12, 5e18];
    assert.deepEqual(sizes.map(formatBytes), [
      "0 B",
      "999 B",
      "1.0 kB",
      "1.5 MB",
      "999.9 kB",
      "1.0 MB",
      "4.0 TB",
      "5000.0 PB",
    ]);
  });

  it("writes durations", () => {
    assert.deepEqual([0, 7_000, 61_000, 3_723_000, 100 * 3_600_000].map(formatDuration), [
      "0:00",
      "0:07",
      "1:01",
      "1:02:03",
      "100:00:00",
    ]);
  });

  it("estimates what is left, where that can be known", () => {
    const base = { bytes: 25, totalBytes: 100, elapsedMs: 1000, rate: 25 };
    assert.equal(estimateMs(base), 3000);
    assert.equal(estimateMs({ ...base, totalBytes: undefined }), undefined);
    assert.equal(estimateMs({ ...base, rate: 0 }), undefined);
    assert.equal(estimateMs({ ...base, bytes: 101 }), undefined);
  });

  it("fits its line", () => {
    const progress = { bytes: 250e6, totalBytes: 1e9, elapsedMs: 1000, rate: 250e6 };
    assert.equal(
      formatProgress(progress, 80),
      "[#######........................] 25%  250.0 MB of 1.0 GB, 250.0 MB/s, 0:03 left",
    );
    for (let width = 20; width < 120; width++) assert.ok(formatProgress(progress, width).length <= width);
    assert.equal(
      formatProgress({ ...progress, totalBytes: undefined }, 80),
      "250.0 MB, 250.0 MB/s, 0:01 so far",
    );
    assert.match(formatProgress({ ...progress, bytes: 1e9 }, 80), /\[#+\]100%/);
    assert.doesNotMatch(formatProgress({ ...progress, bytes: 2e9 }, 80), /%/);
  });

  it("redraws a terminal's line, and wipes it", () => {
    const out: string[] = [];
    const meter = new ProgressMeter({ columns: 80, write: (text) => void out.push(text) }, 0);
    meter.update(1, 10, 100);
    assert.deepEqual(out, []);
    meter.clear();
    assert.deepEqual(out, []);
    meter.update(1_000_000, 4_000_000, 200);
    assert.equal(out.length, 1);
    const bar = `[${"#".repeat(8)}${".".repeat(26)}]`;
    assert.equal(out[0], `\r${bar} 25%  1.0 MB of 4.0 MB, 5.0 MB/s, 0:01 left\x1b[K`);
    meter.clear();
    assert.equal(out[1], "\r\x1b[K");
  });

  it("elsewhere writes a line every ten seconds, so that short transfers write none", () => {
    const out: string[] = [];
    const meter = new ProgressMeter({ columns: undefined, write: (text) => void out.push(text) }, 0);
    for (let now = 0; now <= 25_000; now += 50) meter.update(now * 1000, 100_000_000, now);
    assert.equal(out.length, 2);
    assert.ok(out.every((line) => line.endsWith("left\n") && line.includes("1.0 MB/s")));
    meter.clear();
    assert.equal(out.length, 2);
  });

  it("sums up", () => {
    const meter = new ProgressMeter({ columns: undefined, write() {} }, 0);
    meter.update(1_200_000_000, undefined, 3_000);
    assert.equal(meter.summary(3_000), "1.2 GB in 3.0 s (400.0 MB/s)");
    assert.equal(new ProgressMeter({ columns: undefined, write() {} }, 5).summary(5), "0 B in 0.0 s");
  });
});
