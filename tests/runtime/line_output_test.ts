/** Lines on their way out, over an output that the test holds up and breaks. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { LineOutput, OUTPUT_WAITING_MAX_BYTES } from "../../src/runtime/line_output.ts";

describe("LineOutput", () => {
  it("loses new lines while nobody reads, keeps the old ones, and tells once", async () => {
    const text: string[] = [];
    let letThrough = () => {};
    const told: number[] = [];
    const held = new Promise<void>((resolve) => letThrough = resolve);
    const output = new LineOutput(async (bytes) => {
      await held;
      text.push(new TextDecoder().decode(bytes));
      return bytes.length;
    }, (lost) => {
      told.push(lost);
      output.write("told\n");
    });
    const line = `${"x".repeat(1023)}\n`;
    const room = OUTPUT_WAITING_MAX_BYTES / 1024;
    for (let i = 0; i < room + 5; i++) output.write(line);
    assert.equal(output.lost, 5);
    await output.flushed(5);
    assert.equal(text.length, 0);
    letThrough();
    await output.flushed(Infinity);
    assert.deepEqual(told, [5]);
    assert.ok(text.join("") === `${line.repeat(room)}told\n`);
  });

  it("writes in pieces as the system takes them, and again where a pipe isn't ready", async () => {
    let text = "";
    let refusals = 2;
    const output = new LineOutput((bytes) => {
      if (refusals-- > 0) return Promise.reject(Object.assign(new Error("again"), { code: "EAGAIN" }));
      const part = bytes.subarray(0, 3);
      text += new TextDecoder().decode(part);
      return Promise.resolve(part.length);
    });
    output.write("one\n");
    output.write("two and three\n");
    await output.flushed(Infinity);
    assert.equal(text, "one\ntwo and three\n");
    assert.equal(output.lost, 0);
  });

  it("counts what can't be written, and goes on with what comes later", async () => {
    let text = "";
    let full = true;
    const told: number[] = [];
    const output = new LineOutput((bytes) => {
      if (full) return Promise.reject(Object.assign(new Error("full"), { code: "ENOSPC" }));
      text += new TextDecoder().decode(bytes);
      return Promise.resolve(bytes.length);
    }, (lost) => void told.push(lost));
    output.write("a\n");
    output.write("b\n");
    await output.flushed(Infinity);
    full = false;
    output.write("c\n");
    await output.flushed(Infinity);
    assert.deepEqual([text, output.lost, told], ["c\n", 2, [2]]);
  });
});
