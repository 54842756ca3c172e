/**
 * The rules of the credit dialect, one a test, for every channel that carries it (docs/sealed-transport.md and
 * docs/quic-transport.md, Frames). The session under test has a peer that says exactly what the test says.
 */
import assert from "node:assert/strict";
import { AGENT_OPEN_COST, IDLE_FRAMES_BURST } from "../../src/protocol/mux/frame_budget.ts";
import { describe, it } from "node:test";
import type { Bytes } from "../../src/bytes/bytes.ts";
import type { Role } from "../../src/crypto/header_cipher.ts";
import { type ErrorCode, errorCode, SallyportError } from "../../src/errors.ts";
import {
  CREDIT_SESSION_FIRST_BYTES,
  CREDIT_STREAM_FIRST_BYTES,
  CREDIT_STREAM_WINDOW_BYTES,
} from "../../src/protocol/mux/credit/windows.ts";
import { HALF_CLOSE_GRACE_MS } from "../../src/protocol/mux/endings.ts";
import { type Patience, PING_INTERVAL_MS, SILENCE_MAX_MS } from "../../src/protocol/mux/heartbeat.ts";
import type { Caller } from "../../src/protocol/mux/host.ts";
import {
  DEFAULT_QUEUE_LIMITS,
  FRAME_MAX_SEND_BYTES,
  type QueueLimits,
  SESSION_RECEIVE_BUDGET_BYTES,
  STREAMS_PER_SESSION_MAX,
} from "../../src/protocol/mux/queue_limits.ts";
import { SESSION_HELD_STALL_MS } from "../../src/protocol/mux/stall_watch.ts";
import type { SessionStream } from "../../src/transport/port.ts";
import {
  CREDIT_HEADER_BYTES,
  CreditFrame,
  decodeCredit,
  decodeOpen,
  decodeReason,
  encodeCreditFrame,
  encodeOpen,
  encodeReason,
  encodeReasonBody,
} from "../../src/wire/credit/credit_frame.ts";
import { Recorder } from "../protocol/mux/harness.ts";
import { pattern } from "../support/seeded.ts";

const { OPEN, DATA, CREDIT, FIN, RESET, GOAWAY, PING, PONG } = CreditFrame;
const CALLER = { address: "192.0.2.1", port: 7, serverName: "a.test" };
const NOTHING: Bytes = new Uint8Array(0);

/** A frame that the session has sent. */
export interface Heard {
  readonly type: number;
  readonly stream: number;
  readonly body: Bytes;
}

/** What the suite needs to know of a session under test. */
export interface LoneOptions {
  readonly role?: Role;
  readonly receiveBudgetBytes?: number;
  /** How soon it gives a silent peer up; never, unless asked for. */
  readonly patience?: Patience;
}

/** The limits of a session under test. */
export function limitsOf({ patience }: LoneOptions): QueueLimits {
  return { ...DEFAULT_QUEUE_LIMITS, pingIntervalMs: 86_400_000, silenceMaxMs: 2 * 86_400_000, ...patience };
}

/** A session whose peer is the test. Streams have numbers: of the edge's from 1 on, of the agent's from 2³¹ + 1 on. */
export abstract class Lone {
  readonly role: Role;
  readonly arrived: SessionStream[] = [];
  readonly refusals: ErrorCode[] = [];
  closedStreams = 0;
  readonly goneAway: ErrorCode[] = [];
  readonly ends: SallyportError[] = [];
  onStream: (stream: SessionStream) => void = () => {};

  constructor(role: Role) {
    this.role = role;
  }

  abstract readonly session: {
    readonly streams: number;
    readonly bytesSent: number;
    readonly bytesReceived: number;
    readonly rttMs: number | undefined;
  };
  abstract open(caller?: Caller): SessionStream;
  abstract goAway(code: ErrorCode): void;
  abstract end(error: SallyportError): void;
  /** The peer says a frame. */
  abstract say(frame: Bytes): void;
  /** Everything that was sent since the last call, stream by stream in order; the session's own marks left out. */
  abstract heard(): Heard[];
  /** The connection takes no bytes (true), or takes them again. */
  abstract block(blocked: boolean): void;
  /** Lets the session do what it has asked to do. */
  abstract settle(): void;
  /** Lets time pass. */
  abstract advance(ms: number): void;

  /** Why the session has ended; undefined while it goes on. */
  endCode(): ErrorCode | undefined {
    return this.ends[0]?.code;
  }

  /** Lets the session begin, and passes over what it says first. */
  started(): this {
    this.settle();
    this.heard();
    return this;
  }

  /** A frame of the peer's. */
  tell(type: number, stream = 0, body: Bytes = NOTHING): void {
    this.say(encodeCreditFrame(type, stream, body));
    this.settle();
  }

  credit(stream: number, bytes: number): void {
    const body = new Uint8Array(4);
    new DataView(body.buffer).setUint32(0, bytes);
    this.tell(CREDIT, stream, body);
  }

  reset(stream: number, code: ErrorCode): void {
    this.say(encodeReason(RESET, stream, code));
    this.settle();
  }

  /** The peer opens its next stream; the recorder is attached unless told otherwise. */
  peerOpens(creditBytes = CREDIT_STREAM_FIRST_BYTES, attached = true) {
    const id = this.#peerFirst + this.#peerCount++;
    const before = this.arrived.length;
    this.say(encodeOpen(id, { ...CALLER, creditBytes }));
    this.settle();
    const stream = this.arrived[before];
    const recorder = new Recorder();
    if (stream !== undefined && attached) stream.attach(recorder);
    return { id, stream: stream!, recorder };
  }

  /** A stream of the session's, whose OPEN has been heard. */
  opens() {
    const stream = this.open(CALLER);
    const recorder = new Recorder();
    stream.attach(recorder);
    this.settle();
    const { stream: id } = this.only(OPEN);
    return { id, stream, recorder };
  }

  /** The one frame that was sent, of this type. */
  only(type: number): Heard {
    const heard = this.heard();
    assert.deepEqual(heard.map((frame) => frame.type), [type]);
    return heard[0]!;
  }

  /** Payload that was sent, over all streams or of one. */
  payload(frames = this.heard()): number {
    return frames.filter(({ type }) => type === DATA).reduce((sum, { body }) => sum + body.length, 0);
  }

  #peerCount = 1;
  get #peerFirst(): number {
    return this.role === "edge" ? 0x8000_0000 : 0;
  }
}

/** Frames in a stretch of bytes. */
export function framesIn(bytes: Bytes, stream?: number): Heard[] {
  const found: Heard[] = [];
  for (let at = 0; at < bytes.length;) {
    const view = new DataView(bytes.buffer, bytes.byteOffset + at);
    const size = view.getUint32(0) & 0xff_ffff;
    const body = bytes.slice(at + CREDIT_HEADER_BYTES, at + CREDIT_HEADER_BYTES + size);
    assert.equal(body.length, size, "a frame is whole");
    found.push({ type: bytes[at]!, stream: stream ?? view.getUint32(4), body });
    at += CREDIT_HEADER_BYTES + size;
  }
  return found;
}

/** Runs the rules; `make` makes a session, whose first CREDIT has been taken off where it had one to send. */
export function creditSuite(what: string, make: (options?: LoneOptions) => Lone): void {
  const started = (options?: LoneOptions) => make(options).started();

  describe(`CreditEngine over ${what}: opening`, () => {
    it("open() sends one OPEN with the caller and the stream's first credit", () => {
      const lone = started();
      lone.open(CALLER);
      lone.settle();
      assert.deepEqual(decodeOpen(lone.only(OPEN).body), {
        ...CALLER,
        creditBytes: CREDIT_STREAM_FIRST_BYTES,
      });
      assert.equal(lone.session.streams, 1);
    });

    it("open() leaves out a port and a name that aren't known", () => {
      const lone = started();
      lone.open({ address: "2001:db8::7" });
      lone.settle();
      const { address, port, serverName } = decodeOpen(lone.only(OPEN).body);
      assert.deepEqual([address, port, serverName], ["2001:db8::7", 0, undefined]);
    });

    it("OPEN of the peer makes a stream with its caller, and is answered by nothing", () => {
      const lone = started();
      const { stream } = lone.peerOpens();
      assert.deepEqual({ ...stream.caller }, CALLER);
      assert.deepEqual([lone.heard(), lone.session.streams, lone.arrived.length], [[], 1, 1]);
    });

    it("OPEN says how much may be sent at first", () => {
      const lone = started();
      const { stream } = lone.peerOpens(1000);
      stream.write(pattern(5000, 1));
      lone.settle();
      assert.equal(lone.payload(), 1000);
      assert.ok(stream.peerPaused);
    });

    it("open() throws limit_exceeded for the stream after STREAMS_PER_SESSION_MAX, and takes one when another has gone", () => {
      const lone = started();
      const streams = Array.from({ length: STREAMS_PER_SESSION_MAX }, () => lone.open(CALLER));
      assert.throws(() => lone.open(CALLER), { code: "limit_exceeded" });
      streams[5]!.abort();
      lone.settle();
      lone.open(CALLER);
      assert.equal(lone.session.streams, STREAMS_PER_SESSION_MAX);
    });

    const beyond =
      "OPEN of the peer beyond STREAMS_PER_SESSION_MAX is answered by RESET limit_exceeded and counted";
    it(beyond, { timeout: 60_000 }, () => {
      const lone = started();
      for (let i = 0; i < STREAMS_PER_SESSION_MAX; i++) lone.peerOpens();
      lone.heard();
      lone.peerOpens();
      assert.equal(decodeReason(lone.only(RESET).body), "limit_exceeded");
      assert.deepEqual([lone.refusals, lone.session.streams], [["limit_exceeded"], STREAMS_PER_SESSION_MAX]);
    });

    it("open() throws what the session ended with", () => {
      const lone = started();
      const why = new SallyportError("replaced", "Replaced", { side: "local" });
      lone.end(why);
      assert.throws(() => lone.open(CALLER), why);
    });
  });

  describe(`CreditEngine over ${what}: credit that is given`, () => {
    it("a stream sends no more than its credit, in frames of FRAME_MAX_SEND_BYTES at most, and goes on by CREDIT", () => {
      const lone = started();
      const { id, stream } = lone.opens();
      const bytes = pattern(CREDIT_STREAM_FIRST_BYTES + 70_000, 1);
      stream.write(bytes);
      lone.settle();
      const first = lone.heard();
      assert.ok(first.every(({ type, body }) => type === DATA && body.length <= FRAME_MAX_SEND_BYTES));
      assert.equal(lone.payload(first), CREDIT_STREAM_FIRST_BYTES);
      lone.credit(id, 69_999);
      const second = lone.heard();
      assert.equal(lone.payload(second), 69_999);
      lone.credit(id, 5);
      const third = lone.heard();
      assert.deepEqual(
        Buffer.concat([...first, ...second, ...third].map(({ body }) => body)),
        Buffer.from(bytes),
      );
      assert.equal(lone.session.bytesSent, bytes.length);
    });

    it("credit of several CREDITs adds up", () => {
      const lone = started();
      const { id, stream } = lone.opens();
      lone.credit(id, 1000);
      lone.credit(id, 2000);
      stream.write(pattern(CREDIT_STREAM_FIRST_BYTES + 9000, 1));
      lone.settle();
      assert.equal(lone.payload(), CREDIT_STREAM_FIRST_BYTES + 3000);
    });

    it("all streams together send no more than the session's credit, and go on by the session's CREDIT", () => {
      const lone = started();
      const streams = Array.from({ length: 10 }, () => lone.opens().stream);
      for (const stream of streams) stream.write(pattern(CREDIT_STREAM_FIRST_BYTES, 1));
      lone.settle();
      assert.equal(lone.payload(), CREDIT_SESSION_FIRST_BYTES);
      lone.credit(0, 1234);
      assert.equal(lone.payload(), 1234);
      lone.credit(0, 10_000_000);
      assert.equal(lone.session.bytesSent, 10 * CREDIT_STREAM_FIRST_BYTES);
    });

    it("a stream without credit doesn't hold up its neighbours", () => {
      const lone = started();
      const stalled = lone.opens();
      stalled.stream.write(pattern(2 * CREDIT_STREAM_FIRST_BYTES, 1));
      lone.settle();
      lone.heard();
      const free = lone.opens();
      free.stream.write(pattern(100, 2));
      lone.settle();
      assert.deepEqual(lone.heard().map(({ stream, body }) => [stream, body.length]), [[free.id, 100]]);
    });

    it("write() says false where a queue has filled, and drain comes when there is credit again", () => {
      const lone = started();
      const { id, stream, recorder } = lone.opens();
      assert.equal(stream.write(pattern(1000, 1)), true);
      let written = 1000;
      while (stream.write(pattern(64 * 1024, 1))) written += 64 * 1024;
      assert.ok(written <= CREDIT_STREAM_FIRST_BYTES + DEFAULT_QUEUE_LIMITS.outgoingHighBytes, `${written}`);
      lone.settle();
      assert.equal(recorder.drains, 0);
      lone.credit(id, 8 * 1024 * 1024);
      lone.credit(0, 8 * 1024 * 1024);
      assert.equal(recorder.drains, 1);
      assert.equal(stream.bufferedBytes, 0);
      assert.equal(stream.write(pattern(1000, 1)), true);
    });

    it("a stream with more than outgoingMaxBytes waiting is reset with stream_overflow, and counted", () => {
      const lone = started();
      const { stream, recorder } = lone.opens();
      const chunk = new Uint8Array(1024 * 1024);
      for (let i = 0; i < DEFAULT_QUEUE_LIMITS.outgoingMaxBytes / chunk.length; i++) stream.write(chunk);
      lone.settle();
      assert.equal(recorder.closes, 0);
      stream.write(chunk);
      lone.settle();
      assert.equal((recorder.error as SallyportError).code, "stream_overflow");
      assert.deepEqual(lone.refusals, ["stream_overflow"]);
      assert.equal(decodeReason(lone.heard().at(-1)!.body), "stream_overflow");
      assert.equal(lone.session.streams, 0);
    });

    it("write() may reuse its buffer, large or small, queued or not", () => {
      const lone = started();
      const { id, stream } = lone.opens();
      const sizes = [100, 5000, 200_000];
      for (const [i, size] of sizes.entries()) {
        const chunk = pattern(size, i);
        stream.write(chunk);
        chunk.fill(0xee);
      }
      lone.credit(id, 1_000_000);
      const sent = Buffer.concat(lone.heard().map(({ body }) => body));
      assert.deepEqual(sent, Buffer.concat(sizes.map((size, i) => pattern(size, i))));
    });

    it("write() of nothing sends nothing", () => {
      const lone = started();
      assert.equal(lone.opens().stream.write(NOTHING), true);
      lone.settle();
      assert.deepEqual(lone.heard(), []);
    });
  });

  describe(`CreditEngine over ${what}: credit that is asked for`, () => {
    it("a session grants its budget at the start, beyond the dialect's first bytes", () => {
      const lone = make();
      lone.settle();
      const { stream, body } = lone.only(CREDIT);
      assert.deepEqual([stream, decodeCredit(body)], [
        0,
        SESSION_RECEIVE_BUDGET_BYTES - CREDIT_SESSION_FIRST_BYTES,
      ]);
    });

    it("a session whose budget is the first bytes grants nothing at the start", () => {
      const lone = make({ receiveBudgetBytes: CREDIT_SESSION_FIRST_BYTES });
      lone.settle();
      assert.deepEqual(lone.heard(), []);
    });

    it("a stream's CREDIT comes when half of its window has been taken, and not before", () => {
      const lone = started();
      const { id } = lone.peerOpens();
      // A window grows with what was taken: of t bytes there are t + first, and half of that must be missing.
      lone.tell(DATA, id, pattern(40_000, 1));
      assert.deepEqual(lone.heard(), []);
      lone.tell(DATA, id, pattern(40_000, 1));
      const { stream, body } = lone.only(CREDIT);
      assert.deepEqual([stream, decodeCredit(body)], [id, 160_000]);
    });

    it("a stream's window grows to CREDIT_STREAM_WINDOW_BYTES and no further", () => {
      const lone = started();
      const { id } = lone.peerOpens();
      let granted = CREDIT_STREAM_FIRST_BYTES;
      let sent = 0;
      const chunk = new Uint8Array(60_000);
      while (sent < 40_000_000) {
        lone.tell(DATA, id, chunk);
        sent += chunk.length;
        for (const { type, stream, body } of lone.heard()) {
          if (type === CREDIT && stream === id) granted += decodeCredit(body);
        }
        assert.ok(granted - sent <= CREDIT_STREAM_WINDOW_BYTES, `${granted - sent} bytes may come`);
      }
      assert.ok(granted - sent >= CREDIT_STREAM_WINDOW_BYTES / 2, `${granted - sent} bytes may come`);
    });

    it("a paused stream gets no CREDIT until it takes bytes again", () => {
      const lone = started();
      const { id, stream, recorder } = lone.peerOpens();
      stream.pause();
      for (let i = 0; i < 2; i++) lone.tell(DATA, id, pattern(60_000, i));
      assert.deepEqual([lone.heard(), recorder.byteLength], [[], 0]);
      stream.resume();
      lone.settle();
      assert.equal(recorder.byteLength, 120_000);
      assert.equal(lone.only(CREDIT).stream, id);
    });

    it("a stream takes exactly what was granted; one byte more ends the session", () => {
      for (const [more, code] of [[0, undefined], [1, "frame_invalid"]] as const) {
        const lone = started();
        const { id, stream } = lone.peerOpens();
        stream.pause();
        lone.tell(DATA, id, pattern(CREDIT_STREAM_FIRST_BYTES / 2, 1));
        lone.tell(DATA, id, pattern(CREDIT_STREAM_FIRST_BYTES / 2, 1));
        if (more > 0) lone.tell(DATA, id, pattern(more, 1));
        assert.equal(lone.endCode(), code);
      }
    });

    it("all streams together may bring exactly what was granted; one byte more ends the session", () => {
      for (const [more, code] of [[0, undefined], [1, "frame_invalid"]] as const) {
        const lone = started({ receiveBudgetBytes: CREDIT_SESSION_FIRST_BYTES });
        for (let i = 0; i < 8; i++) {
          const { id, stream } = lone.peerOpens();
          stream.pause();
          for (let k = 0; k < 2; k++) lone.tell(DATA, id, pattern(CREDIT_STREAM_FIRST_BYTES / 2, 1));
        }
        const { id, stream } = lone.peerOpens();
        stream.pause();
        if (more > 0) lone.tell(DATA, id, pattern(more, 1));
        assert.equal(lone.endCode(), code);
      }
    });

    it("the session's CREDIT comes when a quarter of the budget has been taken", () => {
      const lone = started({ receiveBudgetBytes: CREDIT_SESSION_FIRST_BYTES });
      const { id } = lone.peerOpens();
      const sessions = () => lone.heard().filter(({ type, stream }) => type === CREDIT && stream === 0);
      const quarter = CREDIT_SESSION_FIRST_BYTES / 4;
      for (let sent = 0; sent < quarter - 8192; sent += 8192) lone.tell(DATA, id, pattern(8192, 1));
      assert.deepEqual(sessions(), []);
      lone.tell(DATA, id, pattern(8192, 1));
      assert.deepEqual(sessions().map(({ body }) => decodeCredit(body)), [quarter]);
    });

    it("bytes of a stream that is gone count as taken for the session", () => {
      const lone = started({ receiveBudgetBytes: CREDIT_SESSION_FIRST_BYTES });
      for (let i = 0; i < 40; i++) {
        const { id, stream } = lone.peerOpens();
        stream.abort();
        lone.settle();
        for (let k = 0; k < 2; k++) lone.tell(DATA, id, pattern(60_000, 1));
        lone.reset(id, "aborted");
      }
      assert.deepEqual([lone.endCode(), lone.session.streams], [undefined, 0]);
    });

    it("bytes that a stream held when it went count as taken for the session", () => {
      const lone = started({ receiveBudgetBytes: CREDIT_SESSION_FIRST_BYTES });
      for (let i = 0; i < 40; i++) {
        const { id, stream } = lone.peerOpens();
        stream.pause();
        for (let k = 0; k < 2; k++) lone.tell(DATA, id, pattern(60_000, 1));
        stream.abort();
        lone.settle();
      }
      assert.deepEqual([lone.endCode(), lone.session.streams], [undefined, 0]);
    });

    it("bytes that waited for a handler that releases the stream with the first of them are consumed once", () => {
      const lone = started({ receiveBudgetBytes: CREDIT_SESSION_FIRST_BYTES });
      for (let round = 0; round < 2; round++) {
        const { id, stream } = lone.peerOpens();
        stream.pause();
        for (let k = 0; k < 2; k++) lone.tell(DATA, id, pattern(48 * 1024, k));
        stream.attach(Object.assign(new Recorder(), { data: () => stream.release() }));
        stream.resume();
        lone.settle();
      }
      // Less than a quarter of the budget was consumed, so the session owes no CREDIT yet.
      const credits = lone.heard().filter(({ type, stream }) => type === CREDIT && stream === 0);
      assert.deepEqual(credits, []);
    });

    it("no CREDIT is sent for a stream whose FIN has come", () => {
      const lone = started();
      const { id, stream, recorder } = lone.peerOpens();
      stream.pause();
      for (let k = 0; k < 2; k++) lone.tell(DATA, id, pattern(60_000, k));
      lone.tell(FIN, id);
      stream.resume();
      lone.settle();
      assert.deepEqual([recorder.byteLength, recorder.ends, lone.heard()], [120_000, 1, []]);
    });

    it("streams that take nothing are dropped SESSION_HELD_STALL_MS after the budget was used up, those that take stay", () => {
      const lone = started({ receiveBudgetBytes: CREDIT_SESSION_FIRST_BYTES });
      const stalled = Array.from({ length: 7 }, () => {
        const peer = lone.peerOpens();
        peer.stream.pause();
        for (let k = 0; k < 2; k++) lone.tell(DATA, peer.id, pattern(CREDIT_STREAM_FIRST_BYTES / 2, 1));
        return peer;
      });
      const free = lone.peerOpens();
      lone.heard();
      lone.advance(SESSION_HELD_STALL_MS - 1);
      assert.deepEqual(lone.refusals, []);
      lone.advance(1);
      lone.settle();
      assert.deepEqual(lone.refusals, ["stream_overflow"]);
      const resets = lone.heard().filter(({ type }) => type === RESET);
      assert.deepEqual(resets.map(({ body }) => decodeReason(body)), lone.refusals);
      assert.equal(stalled.filter(({ recorder }) => recorder.closes === 1).length, 1);
      assert.equal(free.recorder.closes, 0);
    });
  });

  describe(`CreditEngine over ${what}: ends`, () => {
    it("closeWrite() sends FIN at once where nothing waits, and once", () => {
      const lone = started();
      const { id, stream } = lone.opens();
      stream.closeWrite();
      stream.closeWrite();
      lone.settle();
      assert.equal(lone.only(FIN).stream, id);
    });

    it("FIN follows the last byte that waits for credit", () => {
      const lone = started();
      const { id, stream } = lone.opens();
      stream.write(pattern(CREDIT_STREAM_FIRST_BYTES + 10, 1));
      stream.closeWrite();
      lone.settle();
      assert.ok(!lone.heard().some(({ type }) => type === FIN));
      lone.credit(id, 9);
      assert.equal(lone.payload(), 9);
      lone.credit(id, 1);
      assert.deepEqual(lone.heard().map(({ type }) => type), [DATA, FIN]);
    });

    it("write() after closeWrite() is dropped", () => {
      const lone = started();
      const { stream } = lone.opens();
      stream.closeWrite();
      assert.equal(stream.write(pattern(10, 1)), true);
      lone.settle();
      lone.only(FIN);
    });

    it("each direction ends by itself; the stream is over after both", () => {
      for (const first of ["own", "peer"] as const) {
        const lone = started();
        const { id, stream, recorder } = lone.opens();
        if (first === "own") stream.closeWrite();
        else lone.tell(FIN, id);
        lone.settle();
        if (first === "own") lone.tell(DATA, id, pattern(10, 1));
        else stream.write(pattern(10, 1));
        lone.advance(60_000);
        assert.deepEqual([recorder.closes, lone.session.streams], [0, 1]);
        if (first === "own") lone.tell(FIN, id);
        else stream.closeWrite();
        lone.settle();
        assert.deepEqual([recorder.ends, recorder.closes, recorder.error], [1, 1, undefined]);
        assert.deepEqual([lone.session.streams, lone.closedStreams], [0, 1]);
      }
    });

    it("the end comes after all bytes, when a paused reader has taken them", () => {
      const lone = started();
      const { id, stream, recorder } = lone.peerOpens();
      stream.pause();
      lone.tell(DATA, id, pattern(5000, 1));
      lone.tell(FIN, id);
      stream.closeWrite();
      lone.settle();
      assert.deepEqual([recorder.events, lone.session.streams], [[], 1]);
      stream.resume();
      lone.settle();
      assert.deepEqual([recorder.bytes, recorder.events.slice(-2)], [pattern(5000, 1), ["end", "close"]]);
      assert.equal(lone.session.streams, 0);
    });

    it("a stream waits unread until it is attached, its end too", () => {
      const lone = started();
      const { id, stream } = lone.peerOpens(CREDIT_STREAM_FIRST_BYTES, false);
      lone.tell(DATA, id, pattern(5000, 1));
      lone.tell(FIN, id);
      const recorder = new Recorder();
      stream.attach(recorder);
      lone.settle();
      assert.deepEqual([recorder.bytes, recorder.ends], [pattern(5000, 1), 1]);
    });

    it("attach() delivers what came before, without any other event", () => {
      const lone = started();
      const { id, stream } = lone.peerOpens(CREDIT_STREAM_FIRST_BYTES, false);
      lone.tell(DATA, id, pattern(1, 1));
      const recorder = new Recorder();
      stream.attach(recorder);
      lone.settle();
      assert.equal(recorder.byteLength, 1);
    });

    it("abort() and release() of a stream that is being watched leave nothing to be done later", () => {
      const lone = started();
      const { stream, recorder } = lone.opens();
      stream.release();
      stream.abort();
      lone.settle();
      lone.heard();
      lone.advance(3 * HALF_CLOSE_GRACE_MS);
      assert.deepEqual([lone.heard(), recorder.closes, lone.endCode()], [[], 1, undefined]);
    });

    it("RESET of the peer ends both directions with its reason, and isn't answered", () => {
      const lone = started();
      const { id, stream, recorder } = lone.opens();
      lone.reset(id, "endpoint_unreachable");
      assert.equal((recorder.error as SallyportError).code, "endpoint_unreachable");
      assert.deepEqual([recorder.closes, recorder.ends, lone.session.streams, lone.heard()], [1, 0, 0, []]);
      assert.equal(stream.write(pattern(10, 1)), true);
      lone.settle();
      assert.deepEqual(lone.heard(), []);
    });

    it("abort() sends RESET with the error's code, aborted where it has none or one that doesn't travel", () => {
      const cases: [Error | undefined, ErrorCode][] = [
        [undefined, "aborted"],
        [new SallyportError("access_denied", "No", { side: "local" }), "access_denied"],
        [new SallyportError("config_invalid", "No", { side: "local" }), "aborted"],
      ];
      for (const [error, code] of cases) {
        const lone = started();
        const { id, stream, recorder } = lone.opens();
        stream.abort(error);
        lone.settle();
        const reset = lone.only(RESET);
        assert.deepEqual([reset.stream, decodeReason(reset.body)], [id, code]);
        assert.deepEqual([recorder.closes, recorder.error, lone.session.streams], [1, error, 0]);
      }
    });

    it("abort() drops what waits to be sent", () => {
      const lone = started();
      const { id, stream } = lone.opens();
      stream.write(pattern(3 * CREDIT_STREAM_FIRST_BYTES, 1));
      lone.settle();
      lone.heard();
      stream.abort();
      lone.credit(id, 1_000_000);
      lone.only(RESET);
      assert.equal(stream.bufferedBytes, 0);
    });

    it("abort() after both FINs sends nothing", () => {
      const lone = started();
      const { id, stream, recorder } = lone.peerOpens();
      stream.pause();
      lone.tell(DATA, id, pattern(10, 1));
      lone.tell(FIN, id);
      stream.closeWrite();
      lone.settle();
      lone.only(FIN);
      stream.abort();
      lone.settle();
      assert.deepEqual([lone.heard(), recorder.closes, lone.session.streams], [[], 1, 0]);
    });

    it("frames for a stream that is over are passed over", () => {
      const lone = started();
      const { id, stream } = lone.peerOpens();
      stream.abort();
      lone.settle();
      lone.heard();
      lone.credit(id, 10);
      lone.tell(DATA, id, pattern(10, 1));
      lone.tell(FIN, id);
      lone.reset(id, "aborted");
      assert.deepEqual([lone.endCode(), lone.heard(), lone.session.bytesReceived], [undefined, [], 0]);
    });

    it("release() sends what waits and FIN, and drops what comes in without holding up the peer", () => {
      const lone = started();
      const { id, stream, recorder } = lone.opens();
      stream.write(pattern(CREDIT_STREAM_FIRST_BYTES + 5, 1));
      stream.release();
      lone.settle();
      assert.equal(lone.payload(), CREDIT_STREAM_FIRST_BYTES);
      for (let i = 0; i < 2; i++) lone.tell(DATA, id, pattern(40_000, i));
      assert.equal(lone.only(CREDIT).stream, id);
      lone.credit(id, 5);
      assert.deepEqual(lone.heard().map(({ type }) => type), [DATA, FIN]);
      lone.tell(FIN, id);
      assert.deepEqual([recorder.byteLength, recorder.closes, lone.session.streams], [0, 1, 0]);
    });

    it("a released stream that nothing moves is reset after HALF_CLOSE_GRACE_MS", () => {
      const lone = started();
      const { stream, recorder } = lone.opens();
      stream.release();
      lone.settle();
      lone.only(FIN);
      lone.advance(HALF_CLOSE_GRACE_MS - 1);
      assert.equal(recorder.closes, 0);
      lone.advance(1);
      lone.settle();
      lone.only(RESET);
      assert.deepEqual([recorder.closes, lone.session.streams], [1, 0]);
    });

    it("a released stream whose bytes move is looked at again, every HALF_CLOSE_GRACE_MS", () => {
      const lone = started();
      const { id, stream, recorder } = lone.opens();
      stream.write(pattern(CREDIT_STREAM_FIRST_BYTES + 100, 1));
      stream.release();
      lone.settle();
      lone.advance(HALF_CLOSE_GRACE_MS - 1);
      lone.credit(id, 10);
      lone.heard();
      lone.advance(HALF_CLOSE_GRACE_MS);
      assert.equal(recorder.closes, 0);
      lone.advance(1);
      lone.settle();
      lone.only(RESET);
      assert.equal(recorder.closes, 1);
    });

    it("a stream that is given up unattached is forgotten all the same", () => {
      for (const how of ["abort", "release"] as const) {
        const lone = started();
        const { id, stream } = lone.peerOpens(CREDIT_STREAM_FIRST_BYTES, false);
        lone.tell(DATA, id, pattern(10, 1));
        stream[how]();
        lone.tell(FIN, id);
        assert.equal(lone.session.streams, 0, how);
      }
    });

    it("a handler that throws in drain or end loses its stream, not the session", () => {
      for (const where of ["drain", "end"] as const) {
        const lone = started();
        const { id, stream, recorder } = lone.opens();
        recorder[where] = () => {
          throw new Error(`fault in ${where}`);
        };
        while (stream.write(pattern(64 * 1024, 1)));
        if (where === "end") lone.tell(FIN, id);
        lone.credit(id, 8 * 1024 * 1024);
        lone.credit(0, 8 * 1024 * 1024);
        assert.match(recorder.error?.message ?? "", new RegExp(`fault in ${where}`));
        assert.deepEqual([recorder.closes, lone.endCode(), lone.session.streams], [1, undefined, 0], where);
      }
    });

    it("what aborted streams had queued doesn't count against the session's send budget", () => {
      const lone = started();
      for (let i = 0; i < 20; i++) {
        const { stream } = lone.opens();
        stream.write(new Uint8Array(10 * 1024 * 1024));
        stream.abort();
        lone.settle();
        lone.heard();
      }
      assert.deepEqual(lone.refusals, []);
    });

    it("an owner that throws at a new stream loses that stream, not the session", () => {
      const lone = started();
      const recorder = new Recorder();
      lone.onStream = (stream) => {
        stream.attach(recorder);
        throw new TypeError("owner's fault");
      };
      lone.peerOpens(CREDIT_STREAM_FIRST_BYTES, false);
      lone.only(RESET);
      assert.equal(errorCode(recorder.error), "internal");
      assert.deepEqual([lone.endCode(), lone.session.streams], [undefined, 0]);
      lone.onStream = () => {};
      lone.tell(DATA, lone.peerOpens().id, pattern(10, 1));
      assert.equal(lone.session.bytesReceived, 10);
    });

    it("a handler that throws loses its stream, not the session", () => {
      const lone = started();
      const { id, recorder } = lone.peerOpens();
      recorder.onData = () => {
        throw new Error("handler's fault");
      };
      lone.tell(DATA, id, pattern(10, 1));
      lone.only(RESET);
      assert.equal(errorCode(recorder.error), "internal");
      assert.deepEqual([lone.endCode(), lone.session.streams], [undefined, 0]);
    });
  });

  describe(`CreditEngine over ${what}: going away`, () => {
    it("goAway() sends GOAWAY once, and open() throws from then on", () => {
      const lone = started();
      lone.goAway("token_expired");
      lone.goAway("shutdown");
      lone.settle();
      assert.equal(decodeReason(lone.only(GOAWAY).body), "token_expired");
      assert.throws(() => lone.open(CALLER), SallyportError);
    });

    it("goAway() refuses the peer's new streams with RESET shutdown; those that are open go on", () => {
      const lone = started();
      const old = lone.peerOpens();
      lone.goAway("shutdown");
      lone.settle();
      lone.heard();
      const late = lone.peerOpens();
      const reset = lone.only(RESET);
      assert.deepEqual([reset.stream, decodeReason(reset.body)], [late.id, "shutdown"]);
      assert.deepEqual([late.stream, lone.refusals], [undefined, ["shutdown"]]);
      lone.tell(DATA, old.id, pattern(10, 1));
      old.stream.write(pattern(20, 1));
      lone.settle();
      assert.deepEqual([old.recorder.byteLength, lone.payload()], [10, 20]);
    });

    it("GOAWAY of the peer is told once with its reason, and open() throws shutdown, to be tried again elsewhere", () => {
      const lone = started();
      for (const code of ["replaced", "shutdown"] as const) lone.say(encodeReason(GOAWAY, 0, code));
      lone.settle();
      assert.deepEqual(lone.goneAway, ["replaced"]);
      assert.throws(() => lone.open(CALLER), { code: "shutdown", retryable: true });
      assert.equal(lone.endCode(), undefined);
    });

    it("GOAWAY of the peer after our own isn't told", () => {
      const lone = started();
      lone.goAway("shutdown");
      lone.say(encodeReason(GOAWAY, 0, "shutdown"));
      lone.settle();
      assert.deepEqual(lone.goneAway, []);
    });
  });

  describe(`CreditEngine over ${what}: pings`, () => {
    it("PING is answered by PONG with its 16 bytes", () => {
      const lone = started();
      lone.tell(PING, 0, pattern(16, 9));
      assert.deepEqual(lone.only(PONG).body, pattern(16, 9));
    });

    const credit = (bytes: number): Bytes => Uint8Array.of(0, 0, bytes >> 8, bytes & 255);
    // What the peer repeats, on which stream, and whether it is a frame that does nothing.
    const repeated: [string, number, (lone: Lone) => number, Bytes, boolean][] = [
      ["PING", PING, () => 0, pattern(16, 9), true],
      ["PONG", PONG, () => 0, pattern(16, 9), true],
      ["GOAWAY", GOAWAY, () => 0, encodeReasonBody("shutdown"), true],
      ["CREDIT of 4,095 bytes for the session", CREDIT, () => 0, credit(4_095), true],
      ["CREDIT of 4,096 bytes for the session", CREDIT, () => 0, credit(4_096), false],
      ["CREDIT of 4,095 bytes for a stream", CREDIT, (lone) => lone.peerOpens().id, credit(4_095), true],
      ["CREDIT of 4,096 bytes for a stream", CREDIT, (lone) => lone.peerOpens().id, credit(4_096), false],
      ["DATA of a byte", DATA, (lone) => lone.peerOpens().id, pattern(1, 1), false],
    ];
    for (const [name, type, on, body, isIdle] of repeated) {
      it(`a peer that floods ${name} ${isIdle ? "loses its session" : "keeps its session"}`, () => {
        const lone = started();
        const stream = on(lone);
        const frame = encodeCreditFrame(type, stream, body);
        // Time passes while they come, so that some are earned meanwhile.
        const say = (count: number) => {
          for (let i = 0; i < count && lone.endCode() === undefined; i++) {
            lone.say(frame);
            // Answers must go out, else they pile up and end the session for another reason.
            if (i % 50 === 0) lone.settle();
          }
          lone.settle();
        };
        say(IDLE_FRAMES_BURST - AGENT_OPEN_COST);
        assert.equal(lone.endCode(), undefined);
        say(IDLE_FRAMES_BURST);
        assert.equal(lone.endCode(), isIdle ? "limit_exceeded" : undefined);
      });
    }

    const patience = { pingIntervalMs: PING_INTERVAL_MS, silenceMaxMs: SILENCE_MAX_MS };
    for (const role of ["agent", "edge"] as const) {
      it(`${role}: pings when it has said or heard nothing for PING_INTERVAL_MS, and measures the round trip`, () => {
        const lone = started({ role, patience });
        lone.advance(PING_INTERVAL_MS - 1);
        assert.deepEqual(lone.heard(), []);
        lone.advance(1);
        const ping = lone.only(PING);
        lone.advance(40);
        lone.tell(PONG, 0, ping.body);
        assert.equal(lone.session.rttMs, 40);
        lone.advance(PING_INTERVAL_MS);
        assert.notDeepEqual(lone.only(PING).body, ping.body);
      });

      it(`${role}: a session in which nothing is heard for SILENCE_MAX_MS is over, whatever this side says`, () => {
        const lone = started({ role, patience });
        for (let ms = 0; ms < SILENCE_MAX_MS - 1000; ms += 1000) {
          lone.advance(1000);
        }
        assert.equal(lone.endCode(), undefined);
        lone.advance(1000);
        assert.equal(lone.endCode(), "pong_missing");
      });

      it(`${role}: anything that is heard counts as life`, () => {
        const lone = started({ role, patience });
        for (let ms = 0; ms < 10 * SILENCE_MAX_MS; ms += SILENCE_MAX_MS - 1000) {
          lone.advance(SILENCE_MAX_MS - 1000);
          lone.tell(PING, 0, pattern(16, 1));
        }
        assert.equal(lone.endCode(), undefined);
      });
    }

    it("a PONG that isn't the last ping's is no answer", () => {
      const lone = started({ role: "agent", patience });
      lone.advance(PING_INTERVAL_MS);
      lone.tell(PONG, 0, pattern(16, 3));
      assert.deepEqual([lone.session.rttMs, lone.endCode()], [undefined, undefined]);
    });
  });

  describe(`CreditEngine over ${what}: the end of the session`, () => {
    it("end() tells the owner once and every stream, with the reason", () => {
      const lone = started();
      const a = lone.opens();
      const b = lone.peerOpens();
      const why = new SallyportError("replaced", "Replaced", { side: "local" });
      lone.end(why);
      lone.end(new SallyportError("shutdown", "Late", { side: "local" }));
      lone.settle();
      assert.deepEqual(lone.ends, [why]);
      for (const { recorder } of [a, b]) assert.deepEqual([recorder.closes, recorder.error], [1, why]);
      assert.equal(lone.session.streams, 0);
    });

    it("end() lets a stream that is over both ways deliver what came", () => {
      const lone = started();
      const { id, stream, recorder } = lone.peerOpens();
      stream.pause();
      lone.tell(DATA, id, pattern(100, 1));
      lone.tell(FIN, id);
      stream.closeWrite();
      lone.settle();
      lone.end(new SallyportError("replaced", "Replaced", { side: "local" }));
      stream.resume();
      lone.settle();
      assert.deepEqual([recorder.byteLength, recorder.events.slice(-2), recorder.error], [
        100,
        ["end", "close"],
        undefined,
      ]);
    });

    it("nothing is sent after the end, whatever the streams do", () => {
      const lone = started();
      const { stream } = lone.opens();
      lone.end(new SallyportError("replaced", "Replaced", { side: "local" }));
      lone.heard();
      assert.equal(stream.write(pattern(10, 1)), true);
      stream.closeWrite();
      stream.abort();
      lone.goAway("shutdown");
      lone.settle();
      assert.deepEqual(lone.heard(), []);
    });
  });

  describe(`CreditEngine over ${what}: hostile peers`, () => {
    const header = (type: number, size: number, stream = 0) => {
      const bytes = new Uint8Array([type, size >>> 16, size >>> 8, size, 0, 0, 0, 0]);
      new DataView(bytes.buffer).setUint32(4, stream);
      return bytes;
    };

    const invalid: [string, (lone: Lone, id: number) => void][] = [
      ["DATA after FIN", (lone, id) => {
        lone.tell(FIN, id);
        lone.tell(DATA, id, pattern(1, 1));
      }],
      ["a second FIN", (lone, id) => {
        lone.tell(FIN, id);
        lone.tell(FIN, id);
      }],
      ["a frame of 65,537 bytes, by its header", (lone, id) => lone.say(header(DATA, 65_537, id))],
      ["CREDIT of five bytes, by its header", (lone, id) => lone.say(header(CREDIT, 5, id))],
      ["FIN with a body, by its header", (lone, id) => lone.say(header(FIN, 1, id))],
      ["RESET of three bytes, by its header", (lone, id) => lone.say(header(RESET, 3, id))],
      ["GOAWAY without a reason", (lone) => lone.say(header(GOAWAY, 0))],
      ["PING of 15 bytes, by its header", (lone) => lone.say(header(PING, 15))],
      ["PONG of 17 bytes, by its header", (lone) => lone.say(header(PONG, 17))],
    ];
    for (const [name, act] of invalid) {
      it(`the session ends with frame_invalid by ${name}`, () => {
        const lone = started();
        const { id, recorder } = lone.peerOpens();
        act(lone, id);
        lone.settle();
        assert.equal(lone.endCode(), "frame_invalid");
        assert.equal(recorder.closes, 1);
      });
    }

    it("frames of types that don't exist yet are passed over, on the session and on a stream", () => {
      const lone = started();
      const { id, recorder } = lone.peerOpens();
      lone.tell(77, 0, pattern(3, 1));
      lone.tell(0, id, pattern(60_000, 1));
      lone.tell(DATA, id, pattern(10, 1));
      assert.deepEqual([lone.endCode(), recorder.byteLength, lone.session.bytesReceived], [
        undefined,
        10,
        10,
      ]);
    });
  });
}
