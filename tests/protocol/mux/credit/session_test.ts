/** The credit dialect's rules over one byte stream, and those that only hold there: stream numbers, pieces, marks. */
import { IDLE_WINDOW_MS } from "../../../../src/protocol/mux/frame_budget.ts";
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Bytes } from "../../../../src/bytes/bytes.ts";
import { type ErrorCode, SallyportError } from "../../../../src/errors.ts";
import { CreditScratch } from "../../../../src/protocol/mux/credit/sender.ts";
import { CreditSession, type NumberedStream } from "../../../../src/protocol/mux/credit/session.ts";
import type { Caller, MuxHost } from "../../../../src/protocol/mux/host.ts";
import { SESSION_WRITE_STALL_MS } from "../../../../src/protocol/mux/queue_limits.ts";
import { CONTROL_FRAMES_QUEUED_MAX } from "../../../../src/protocol/mux/session_core.ts";
import { CreditFrame, encodeCreditFrame, encodeOpen } from "../../../../src/wire/credit/credit_frame.ts";
import {
  creditSuite,
  framesIn,
  type Heard,
  limitsOf,
  Lone,
  type LoneOptions,
} from "../../../conformance/credit_suite.ts";
import { concat } from "../../../support/tunnel.ts";
import { pattern, seededSource } from "../../../support/seeded.ts";
import { Recorder } from "../harness.ts";

const { OPEN, DATA, PING, PONG, RESET, FIN, CREDIT } = CreditFrame;
const CALLER = { address: "192.0.2.1", port: 7, serverName: "a.test" };
const AGENTS = 0x8000_0000;

/** A session over bytes; marks of the flight are answered at once, as a peer that reads would. */
class LoneBytes extends Lone implements MuxHost<NumberedStream> {
  readonly session: CreditSession;
  written: Bytes[] = [];
  marks: Bytes[] = [];
  answersMarks = true;
  blocked = false;
  #woken = false;
  #held = false;
  #armedMs = Infinity;
  #nowMs = 1000;

  constructor(options: LoneOptions = {}) {
    const { role = "edge", receiveBudgetBytes } = options;
    super(role);
    this.session = new CreditSession({
      role,
      host: this,
      scratch: new CreditScratch(),
      random: seededSource(1),
      receiveBudgetBytes,
      queueLimits: limitsOf(options),
    });
    this.session.start();
  }

  open(caller: Caller = CALLER): NumberedStream {
    return this.session.open(caller);
  }
  goAway(code: ErrorCode): void {
    this.session.goAway(new SallyportError(code, `Going away: ${code}`, { side: "local" }));
  }
  end(error: SallyportError): void {
    this.session.end(error);
  }
  say(frame: Bytes): void {
    this.session.receive(frame);
  }
  heard(): Heard[] {
    const frames = this.written.flatMap((bytes) => framesIn(bytes));
    this.written = [];
    return frames.filter(({ type, body }) => type !== PING || !isMark(body));
  }
  block(blocked: boolean): void {
    this.blocked = blocked;
    if (!blocked) this.session.writable();
  }
  settle(): void {
    for (;;) {
      if (this.answersMarks) {
        for (const mark of this.marks.splice(0)) this.session.receive(encodeCreditFrame(PONG, 0, mark));
      }
      if (this.#held) {
        // Frames without work rest for a while.
        this.#nowMs += IDLE_WINDOW_MS;
        this.session.tick();
      }
      if (!this.#woken) return;
      this.#woken = false;
      this.session.turn();
    }
  }
  advance(ms: number): void {
    const untilMs = this.#nowMs + ms;
    for (this.settle(); this.#armedMs <= untilMs; this.settle()) {
      this.#nowMs = Math.max(this.#nowMs, this.#armedMs);
      this.#armedMs = Infinity;
      this.session.tick();
    }
    this.#nowMs = untilMs;
  }

  // MuxHost.

  write(bytes: Bytes): boolean {
    this.written.push(bytes.slice());
    for (const { type, body } of framesIn(bytes)) if (type === PING && isMark(body)) this.marks.push(body);
    return !this.blocked;
  }
  wake(): void {
    this.#woken = true;
  }
  arm(atMs: number): void {
    this.#armedMs = Math.min(this.#armedMs, atMs);
  }
  nowMs(): number {
    return this.#nowMs;
  }
  holdReading(hold: boolean): void {
    this.#held = hold;
  }
  opened(stream: NumberedStream): void {
    this.arrived.push(stream);
    this.onStream(stream);
  }
  refused(code: ErrorCode): void {
    this.refusals.push(code);
  }
  closed(): void {
    this.closedStreams++;
  }
  goingAway(code: ErrorCode): void {
    this.goneAway.push(code);
  }
  ended(error: SallyportError): void {
    this.ends.push(error);
  }
}

/** Marks count bytes in their second half: a double, whose first byte is 0x40 from 2 bytes on. */
function isMark(id: Bytes): boolean {
  const bytes = new DataView(id.buffer, id.byteOffset).getFloat64(8);
  return Number.isInteger(bytes) && bytes > 0 && bytes < 2 ** 50;
}

creditSuite("a byte stream", (options) => new LoneBytes(options));

describe("CreditSession over a byte stream: stream numbers", () => {
  const open = (id: number) => encodeOpen(id, { ...CALLER, creditBytes: 1000 });

  it("an edge counts from 1, an agent from 2^31 + 1, and no number is used again", () => {
    for (const [role, first] of [["edge", 1], ["agent", AGENTS + 1]] as const) {
      const lone = new LoneBytes({ role }).started();
      const ids = [0, 1, 2].map(() => {
        const { id, stream } = lone.opens();
        stream.abort();
        lone.settle();
        lone.heard();
        return id;
      });
      assert.deepEqual(ids, [first, first + 1, first + 2]);
    }
  });

  it("the peer may leave numbers out, and what was left out is over", () => {
    const lone = new LoneBytes({ role: "edge" });
    lone.say(open(AGENTS + 5));
    lone.tell(DATA, AGENTS + 3, pattern(10, 1));
    assert.deepEqual([lone.arrived.length, lone.endCode()], [1, undefined]);
  });

  const wrong: [string, (lone: LoneBytes) => void][] = [
    ["OPEN with a number that was used", (lone) => {
      lone.say(open(AGENTS + 2));
      lone.say(open(AGENTS + 2));
    }],
    ["OPEN with a smaller number", (lone) => {
      lone.say(open(AGENTS + 2));
      lone.say(open(AGENTS + 1));
    }],
    ["OPEN with a number of this side", (lone) => lone.say(open(1))],
    ["OPEN with the number 0", (lone) => lone.say(open(0))],
    ["OPEN with the agent's number 0", (lone) => lone.say(open(AGENTS))],
    [
      "DATA for a stream of the peer that was never opened",
      (lone) => lone.tell(DATA, AGENTS + 1, pattern(1, 1)),
    ],
    ["DATA for a stream of ours that was never opened", (lone) => lone.tell(DATA, 1, pattern(1, 1))],
    ["CREDIT for a stream that was never opened", (lone) => lone.credit(9, 1)],
    ["FIN for the session", (lone) => lone.tell(FIN, 0)],
    ["RESET for the session", (lone) => lone.reset(0, "aborted")],
  ];
  for (const [name, act] of wrong) {
    it(`the session ends with frame_invalid by ${name}`, () => {
      const lone = new LoneBytes({ role: "edge" });
      lone.settle();
      act(lone);
      assert.equal(lone.endCode(), "frame_invalid");
    });
  }
});

describe("CreditSession over a byte stream: bytes in and out", () => {
  it("receive() takes frames in any pieces", () => {
    const bytes = concat(
      encodeOpen(1, { ...CALLER, creditBytes: 1000 }),
      encodeCreditFrame(DATA, 1, pattern(100, 1)),
      encodeCreditFrame(77, 9, pattern(30, 1)),
      encodeCreditFrame(PING, 0, pattern(16, 1)),
      encodeCreditFrame(FIN, 1, new Uint8Array(0)),
    );
    for (const size of [1, 2, 3, 7, 8, 9, 20, bytes.length]) {
      const lone = new LoneBytes({ role: "agent" });
      const recorder = new Recorder();
      lone.onStream = (stream) => stream.attach(recorder);
      lone.settle();
      lone.heard();
      for (let at = 0; at < bytes.length; at += size) lone.say(bytes.slice(at, at + size));
      lone.settle();
      assert.deepEqual([recorder.bytes, recorder.ends], [pattern(100, 1), 1], `pieces of ${size}`);
      assert.deepEqual(lone.only(PONG).body, pattern(16, 1));
    }
  });

  it("receive() after the end is ignored", () => {
    const lone = new LoneBytes();
    lone.end(new SallyportError("replaced", "Replaced", { side: "local" }));
    lone.say(new Uint8Array(100).fill(0xff));
    assert.equal(lone.ends.length, 1);
  });

  it("control frames go before data that waits", () => {
    const lone = new LoneBytes().started();
    const { stream } = lone.opens();
    lone.block(true);
    stream.write(pattern(5000, 1));
    stream.write(pattern(5000, 2));
    lone.tell(PING, 0, pattern(16, 1));
    lone.heard();
    lone.block(false);
    lone.settle();
    assert.deepEqual(lone.heard().map(({ type }) => type), [PONG, DATA]);
  });

  it("small frames go before bulk that waits", () => {
    const lone = new LoneBytes().started();
    const bulk = lone.opens();
    const small = lone.opens();
    lone.block(true);
    bulk.stream.write(pattern(100, 1));
    lone.settle();
    lone.heard();
    bulk.stream.write(pattern(100_000, 1));
    small.stream.write(pattern(2000, 2));
    lone.block(false);
    lone.settle();
    assert.equal(lone.heard()[0]!.stream, small.id);
  });

  it("bulk streams send a frame each in turn", () => {
    const lone = new LoneBytes().started();
    const a = lone.opens();
    const b = lone.opens();
    lone.block(true);
    lone.open(CALLER);
    lone.settle();
    for (const { stream } of [a, b]) stream.write(pattern(120_000, 1));
    lone.settle();
    lone.heard();
    lone.block(false);
    lone.settle();
    const turns = lone.heard().filter(({ type }) => type === DATA).map(({ stream }) => stream);
    assert.deepEqual(turns.slice(0, 4), [a.id, b.id, a.id, b.id]);
  });

  it("data waits for a peer that answers no mark, and goes on when it does", () => {
    const lone = new LoneBytes().started();
    lone.credit(0, 100_000_000);
    const { id, stream } = lone.opens();
    lone.credit(id, 100_000_000);
    lone.answersMarks = false;
    stream.write(pattern(4_000_000, 1));
    lone.settle();
    const first = lone.payload();
    assert.ok(first < 1_000_000, `${first}`);
    lone.answersMarks = true;
    lone.settle();
    assert.equal(first + lone.payload(), 4_000_000);
  });

  it("small frames pass a window that bulk has filled, bulk doesn't", () => {
    const lone = new LoneBytes().started();
    lone.credit(0, 100_000_000);
    const bulk = lone.opens();
    const small = lone.opens();
    lone.credit(bulk.id, 100_000_000);
    lone.answersMarks = false;
    bulk.stream.write(pattern(3_000_000, 1));
    lone.settle();
    lone.heard();
    assert.equal(small.stream.write(pattern(100, 2)), true);
    assert.equal(small.stream.write(pattern(100_000, 2)), false);
    assert.equal(small.stream.write(pattern(3_000, 2)), false);
    const other = lone.open(CALLER);
    assert.equal(other.write(pattern(2_048, 3)), true);
    lone.settle();
    const sent = lone.heard().filter(({ type }) => type === DATA);
    assert.deepEqual(sent.map(({ body }) => body.length), [2_048]);
  });

  it("a peer that takes no byte for SESSION_WRITE_STALL_MS ends the session", () => {
    const lone = new LoneBytes().started();
    lone.block(true);
    lone.opens();
    for (let ms = 0; ms < SESSION_WRITE_STALL_MS - 1000; ms += 1000) {
      lone.advance(1000);
      lone.tell(PING, 0, pattern(16, 1));
    }
    assert.equal(lone.endCode(), undefined);
    lone.advance(1000);
    assert.equal(lone.endCode(), "session_stalled");
  });

  it("a peer that reads nothing and makes the session answer ends it at CONTROL_FRAMES_QUEUED_MAX", () => {
    const lone = new LoneBytes().started();
    lone.block(true);
    lone.opens();
    for (let i = 0; i < CONTROL_FRAMES_QUEUED_MAX; i++) lone.tell(PING, 0, pattern(16, i));
    assert.equal(lone.endCode(), undefined);
    lone.tell(PING, 0, pattern(16, 1));
    assert.equal(lone.endCode(), "session_stalled");
  });

  it("CREDIT says what is true when it goes out: one frame for all that was taken while the connection was full", () => {
    const lone = new LoneBytes().started();
    const { id } = lone.peerOpens();
    lone.block(true);
    lone.opens();
    for (let i = 0; i < 2; i++) lone.tell(DATA, id, pattern(60_000, i));
    lone.heard();
    lone.block(false);
    lone.settle();
    assert.deepEqual(lone.heard().map(({ type, stream }) => [type, stream]), [[CREDIT, id]]);
  });

  it("a stream that was reset gets no CREDIT that waited", () => {
    const lone = new LoneBytes().started();
    const { id, stream } = lone.peerOpens();
    lone.block(true);
    lone.opens();
    for (let i = 0; i < 2; i++) lone.tell(DATA, id, pattern(60_000, i));
    stream.abort();
    lone.heard();
    lone.block(false);
    lone.settle();
    assert.deepEqual(lone.heard().map(({ type }) => type), [RESET]);
  });

  const open = (body: number[]) => encodeCreditFrame(OPEN, 1, Uint8Array.from(body));
  const malformed: [string, Bytes][] = [
    ["without its parts", open([0, 0, 0])],
    ["with an address of five bytes", open([0, 0, 0, 0, 0, 0, 5, 1, 2, 3, 4, 5, 0])],
    ["whose name is longer than it", open([0, 0, 0, 0, 0, 0, 0, 2, 97])],
    ["with a control character in its name", open([0, 0, 0, 0, 0, 0, 0, 1, 10])],
    ["of more than 277 bytes, by its header", new Uint8Array([OPEN, 0, 2, 0, 0, 0, 0, 1])],
  ];
  for (const [name, bytes] of malformed) {
    it(`the session ends with frame_invalid by an OPEN ${name}`, () => {
      const lone = new LoneBytes({ role: "agent" });
      lone.say(bytes);
      assert.equal(lone.endCode(), "frame_invalid");
    });
  }
});
