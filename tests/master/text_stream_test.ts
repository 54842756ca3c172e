/** Answers that go on: how they live, and how they end. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { TextStream } from "../../src/master/text_stream.ts";
import { handClock, type HandTimer } from "./helpers.ts";

function open(chunksMax = 4) {
  const timers: HandTimer[] = [];
  const { clock } = handClock((timer) => timers.push(timer));
  const closing = new AbortController();
  const over: string[] = [];
  const stream = new TextStream({
    ...{ clock, chunksMax, heartbeat: "\n", heartbeatMs: 1_000 },
    closing: closing.signal,
    over: (why) => over.push(why),
  });
  return { stream, timers, closing, over, reader: stream.body.getReader() };
}

async function text(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<string | undefined> {
  const { done, value } = await reader.read();
  return done ? undefined : new TextDecoder().decode(value);
}

it("brings what is sent, and a heartbeat each time that one is due", async () => {
  const { stream, timers, reader } = open();
  stream.send("first");
  timers[0]?.run();
  timers[1]?.run();
  assert.deepEqual([await text(reader), await text(reader), await text(reader)], ["first", "\n", "\n"]);
  assert.equal(timers.length, 3);
});

it("ends in order by its sender, and with the session master", async () => {
  const first = open();
  first.stream.send("last");
  first.stream.end("enough");
  first.stream.end("again");
  first.stream.send("late");
  assert.deepEqual([await text(first.reader), await text(first.reader)], ["last", undefined]);
  assert.deepEqual([first.over, first.stream.isOver, first.timers[0]?.cancelled], [["enough"], true, true]);
  const second = open();
  second.closing.abort();
  assert.equal(await text(second.reader), undefined);
  assert.deepEqual(second.over, ["the session master stops"]);
});

it("ends when its reader has gone, and when it doesn't read", async () => {
  const gone = open();
  await gone.reader.cancel();
  gone.stream.send("late");
  assert.deepEqual(gone.over, ["it has gone"]);
  const slow = open();
  for (let at = 0; at < 10; at++) slow.stream.send("x");
  assert.deepEqual(slow.over, ["it doesn't read"]);
  await assert.rejects(slow.reader.read(), /doesn't read/);
});
