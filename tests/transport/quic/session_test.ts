/** The credit dialect's rules over QUIC, a stream for each visitor: the session alone, its QUIC is the test's. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { BlockPool } from "../../../src/bytes/block_pool.ts";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import { type ErrorCode, SallyportError } from "../../../src/errors.ts";
import type { Caller } from "../../../src/protocol/mux/host.ts";
import { IDLE_FRAMES_PER_WINDOW, IDLE_WINDOW_MS } from "../../../src/protocol/mux/frame_budget.ts";
import { SESSION_WRITE_STALL_MS } from "../../../src/protocol/mux/queue_limits.ts";
import type { ByteStream, ByteStreamHandler, Clock, Timer } from "../../../src/runtime/port.ts";
import type { QuicConn, QuicConnHandler } from "../../../src/runtime/quic_port.ts";
import type { SessionHandler, SessionStream } from "../../../src/transport/port.ts";
import { QuicSession } from "../../../src/transport/quic/session.ts";
import { CreditFrame, encodeCreditFrame, encodeOpen } from "../../../src/wire/credit/credit_frame.ts";
import {
  creditSuite,
  framesIn,
  type Heard,
  limitsOf,
  Lone,
  type LoneOptions,
} from "../../conformance/credit_suite.ts";
import { pattern, seededSource } from "../../support/seeded.ts";

const { OPEN, DATA, FIN, PING, PONG, CREDIT, OFFER } = CreditFrame;
const CALLER = { address: "192.0.2.1", port: 7, serverName: "a.test" };
const NOTHING: Bytes = new Uint8Array(0);

/** One QUIC stream, seen from the test's side. */
class FakeStream implements ByteStream {
  readonly number: number;
  handler: ByteStreamHandler | undefined;
  written: Bytes[] = [];
  blocked = false;
  writeEnded = false;
  aborted = false;
  /** What came before there was a handler. */
  readonly early: Bytes[] = [];

  constructor(number: number) {
    this.number = number;
  }
  get bufferedBytes(): number {
    return this.blocked ? this.written.reduce((sum, { length }) => sum + length, 0) : 0;
  }
  attach(handler: ByteStreamHandler): void {
    this.handler = handler;
    for (const bytes of this.early.splice(0)) handler.data(bytes);
  }
  write(chunk: Bytes): boolean {
    this.written.push(chunk.slice());
    return !this.blocked;
  }
  closeWrite(): void {
    this.writeEnded = true;
  }
  abort(): void {
    this.aborted = true;
  }
  release(): void {}
  paused = false;
  pause(): void {
    this.paused = true;
  }
  resume(): void {
    this.paused = false;
  }
  comes(bytes: Bytes): void {
    if (this.handler === undefined) this.early.push(bytes);
    else this.handler.data(bytes);
  }
  heard(): Heard[] {
    const all = Buffer.concat(this.written);
    this.written = [];
    return framesIn(new Uint8Array(all), this.number);
  }
}

class LoneQuic extends Lone implements SessionHandler {
  readonly session: QuicSession;
  readonly control = new FakeStream(0);
  readonly quic = new Map<number, FakeStream>([[0, this.control]]);
  conn!: QuicConnHandler;
  closedWith: SallyportError | undefined;
  /** QUIC streams that the session opens come at once; false: when the test calls what is in `waiting`. */
  grants = true;
  readonly waiting: (() => void)[] = [];
  #blocked = false;
  #opened = 0;
  readonly #soon: (() => void)[] = [];
  #timers: { atMs: number; run: () => void }[] = [];
  #nowMs = 1000;

  constructor(options: LoneOptions = {}, offerFrom?: number) {
    const { role = "edge", receiveBudgetBytes } = options;
    super(role);
    this.session = new QuicSession({
      role,
      conn: this.#connection(),
      control: this.control,
      clock: this.#clock(),
      random: seededSource(1),
      blocks: new BlockPool(),
      receiveBudgetBytes,
      queueLimits: limitsOf(options),
      offerFrom,
    });
    this.session.start(this, NOTHING);
  }

  #clock(): Clock {
    return {
      nowMs: () => this.#nowMs,
      wallMs: () => this.#nowMs,
      soon: (run) => void this.#soon.push(run),
      after: (delayMs, run): Timer => {
        const timer = { atMs: this.#nowMs + delayMs, run };
        this.#timers.push(timer);
        return { cancel: () => void (this.#timers = this.#timers.filter((other) => other !== timer)) };
      },
    };
  }

  open(caller: Caller = CALLER): SessionStream {
    return this.session.open(caller);
  }
  goAway(code: ErrorCode): void {
    this.session.goAway(new SallyportError(code, `Going away: ${code}`, { side: "local" }));
  }
  end(error: SallyportError): void {
    this.session.close(error);
  }
  /** The number of the stream in the frame says which QUIC stream it comes on; there it is 0. */
  say(frame: Bytes): void {
    const view = new DataView(frame.buffer, frame.byteOffset);
    const number = view.getUint32(4);
    const own = frame.slice();
    own.fill(0, 4, 8);
    const known = this.quic.get(number);
    if (known !== undefined) return known.comes(own);
    const stream = this.#fake(number);
    stream.comes(own);
    this.conn.stream(stream);
  }
  heard(): Heard[] {
    return [...this.quic.values()].flatMap((stream) => stream.heard());
  }
  block(blocked: boolean): void {
    this.#blocked = blocked;
    for (const stream of this.quic.values()) {
      stream.blocked = blocked;
      if (!blocked) stream.handler?.drain();
    }
  }
  settle(): void {
    for (;;) {
      for (let run = this.#soon.shift(); run !== undefined; run = this.#soon.shift()) run();
      if (![...this.quic.values()].some(({ paused }) => paused)) return;
      // Frames without work rest for a while.
      this.#nowMs += IDLE_WINDOW_MS;
      this.#timers.sort((a, b) => a.atMs - b.atMs);
      while (this.#timers[0] !== undefined && this.#timers[0].atMs <= this.#nowMs) {
        this.#timers.shift()!.run();
      }
    }
  }
  advance(ms: number): void {
    const untilMs = this.#nowMs + ms;
    for (;;) {
      this.settle();
      const [next] = this.#timers.sort((a, b) => a.atMs - b.atMs);
      if (next === undefined || next.atMs > untilMs) break;
      this.#timers.shift();
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.run();
    }
    this.#nowMs = untilMs;
  }

  // SessionHandler.

  stream(stream: SessionStream): void {
    this.arrived.push(stream);
    this.onStream(stream);
  }
  streamClosed(): void {
    this.closedStreams++;
  }
  streamRefused(code: ErrorCode): void {
    this.refusals.push(code);
  }
  goingAway(code: ErrorCode): void {
    this.goneAway.push(code);
  }
  ended(error: SallyportError): void {
    this.ends.push(error);
  }

  #connection(): QuicConn {
    return {
      remote: { host: "192.0.2.9", port: 9 },
      alpn: "sallyport/1",
      peerFingerprint: undefined,
      attach: (handler) => this.conn = handler,
      close: (reason) => this.closedWith = reason,
      // Settles without a turn of the event loop, so that the tests need none either.
      open: () => ({ then: (opened: (stream: ByteStream) => void) => this.#grant(opened) }) as Promise<never>,
    };
  }

  #grant(opened: (stream: ByteStream) => void): void {
    const grant = () => {
      const number = (this.role === "edge" ? 0 : 0x8000_0000) + ++this.#opened;
      const stream = this.#fake(number);
      opened(stream);
    };
    if (this.grants) grant();
    else this.waiting.push(grant);
  }

  #fake(number: number): FakeStream {
    const stream = new FakeStream(number);
    stream.blocked = this.#blocked;
    this.quic.set(number, stream);
    return stream;
  }
}

creditSuite("QUIC", (options) => new LoneQuic(options));

describe("QuicSession: QUIC streams", () => {
  it("a stream's QUIC stream is ended on this side when both FINs have been said, and not before", () => {
    const lone = new LoneQuic().started();
    const { id, stream } = lone.peerOpens();
    const quic = lone.quic.get(id)!;
    stream.closeWrite();
    lone.settle();
    assert.equal(quic.writeEnded, false);
    lone.tell(FIN, id);
    assert.deepEqual([quic.writeEnded, quic.aborted], [true, false]);
  });

  it("a RESET, either side's, ends the QUIC stream on this side and leaves it to the peer to do the same", () => {
    for (const whose of ["own", "peer"] as const) {
      const lone = new LoneQuic().started();
      const { id, stream } = lone.peerOpens();
      const quic = lone.quic.get(id)!;
      if (whose === "own") stream.abort();
      else lone.reset(id, "aborted");
      lone.settle();
      assert.deepEqual([quic.writeEnded, quic.aborted], [true, false], whose);
      lone.advance(SESSION_WRITE_STALL_MS);
      assert.equal(quic.aborted, true, whose);
    }
  });

  it("a QUIC stream that breaks off without FIN or RESET ends its stream with connection_lost", () => {
    for (const error of [undefined, new Error("reset")]) {
      const lone = new LoneQuic().started();
      const { id, recorder } = lone.peerOpens();
      lone.quic.get(id)!.handler!.close(error);
      lone.settle();
      assert.equal((recorder.error as SallyportError).code, "connection_lost");
      assert.deepEqual([lone.endCode(), lone.session.streams], [undefined, 0]);
    }
  });

  it("the end of the control stream is the session's", () => {
    const lone = new LoneQuic().started();
    const { recorder } = lone.peerOpens();
    lone.control.handler!.end();
    lone.settle();
    assert.deepEqual([lone.endCode(), lone.closedWith?.code, recorder.closes], [
      "connection_lost",
      "connection_lost",
      1,
    ]);
  });

  it("close() aborts the QUIC streams and closes the connection with its reason", () => {
    const lone = new LoneQuic().started();
    const { id } = lone.peerOpens();
    const why = new SallyportError("replaced", "Replaced", { side: "local" });
    lone.end(why);
    assert.deepEqual([lone.quic.get(id)!.aborted, lone.closedWith], [true, why]);
    const late = new FakeStream(9);
    lone.conn.stream(late);
    assert.equal(late.aborted, true);
  });

  it("a stream that is opened before there is a QUIC stream says everything in order once there is one", () => {
    const lone = new LoneQuic().started();
    lone.grants = false;
    const stream = lone.open(CALLER);
    stream.write(pattern(100, 1));
    stream.closeWrite();
    lone.settle();
    assert.deepEqual(lone.heard(), []);
    lone.waiting.shift()!();
    lone.settle();
    assert.deepEqual(lone.heard().map(({ type }) => type), [OPEN, DATA, FIN]);
  });

  it("a stream that is aborted before there is a QUIC stream leaves nothing on the wire; the next one takes its place", () => {
    const lone = new LoneQuic().started();
    lone.grants = false;
    lone.open(CALLER).abort();
    lone.settle();
    lone.waiting.shift()!();
    lone.settle();
    assert.deepEqual(lone.heard(), []);
    lone.open(CALLER);
    lone.settle();
    lone.only(OPEN);
    assert.equal(lone.waiting.length, 0);
  });

  it("a QUIC stream that takes no bytes holds up no other", () => {
    const lone = new LoneQuic().started();
    const a = lone.peerOpens();
    const b = lone.peerOpens();
    lone.quic.get(a.id)!.blocked = true;
    for (const { stream } of [a, b]) stream.write(pattern(100_000, 1));
    lone.settle();
    const heard = lone.heard();
    const of = (id: number) => lone.payload(heard.filter(({ stream }) => stream === id));
    assert.ok(of(a.id) <= 65_536, `${of(a.id)}`);
    assert.equal(of(b.id), 100_000);
    lone.quic.get(a.id)!.blocked = false;
    lone.quic.get(a.id)!.handler!.drain();
    lone.settle();
    assert.equal(of(a.id) + lone.payload(), 100_000);
  });

  const wrong: [string, (lone: LoneQuic) => void][] = [
    ["a stream that begins with DATA", (lone) => lone.tell(DATA, 0x8000_0001, pattern(1, 1))],
    ["a stream that begins with FIN", (lone) => lone.tell(FIN, 0x8000_0001)],
    ["a stream that begins with CREDIT", (lone) => lone.credit(0x8000_0001, 1)],
    ["a second OPEN", (lone) => {
      const { id } = lone.peerOpens();
      lone.say(encodeOpen(id, { ...CALLER, creditBytes: 1 }));
    }],
    ["PING on a stream", (lone) => lone.tell(PING, lone.peerOpens().id, pattern(16, 1))],
    ["GOAWAY on a stream", (lone) => lone.tell(CreditFrame.GOAWAY, lone.peerOpens().id, new Uint8Array(2))],
    ["OPEN on the control stream", (lone) => lone.say(encodeOpen(0, { ...CALLER, creditBytes: 1 }))],
    ["DATA on the control stream", (lone) => lone.tell(DATA, 0, pattern(1, 1))],
    ["FIN on the control stream", (lone) => lone.tell(FIN, 0)],
    ["RESET on the control stream", (lone) => lone.reset(0, "aborted")],
    ["OFFER on the control stream", (lone) => lone.tell(OFFER, 0)],
    ["DATA after an OFFER", (lone) => {
      lone.tell(OFFER, 0x8000_0001);
      lone.tell(DATA, 0x8000_0001, pattern(1, 1));
    }],
    ["OPEN after an OFFER", (lone) => {
      lone.tell(OFFER, 0x8000_0001);
      lone.say(encodeOpen(0x8000_0001, { ...CALLER, creditBytes: 1 }));
    }],
  ];
  for (const [name, act] of wrong) {
    it(`the session ends with frame_invalid by ${name}`, () => {
      const lone = new LoneQuic().started();
      act(lone);
      lone.settle();
      assert.equal(lone.endCode(), "frame_invalid");
    });
  }

  it("an agent's session ends with frame_invalid by an edge's OFFER", () => {
    const lone = new LoneQuic({ role: "agent" }, 1).started();
    lone.tell(OFFER, 1);
    assert.equal(lone.endCode(), "frame_invalid");
  });

  it("an offer is taken for the next stream, whose OPEN goes out on it", () => {
    const lone = new LoneQuic().started();
    lone.tell(OFFER, 0x8000_0001);
    lone.open(CALLER);
    lone.settle();
    assert.equal(lone.only(OPEN).stream, 0x8000_0001);
    lone.tell(DATA, 0x8000_0001, pattern(10, 1));
    assert.equal(lone.session.bytesReceived, 10);
    assert.equal(lone.endCode(), undefined);
  });

  it("a peer that reads no answer to its pings ends the session", () => {
    const lone = new LoneQuic().started();
    lone.block(true);
    for (let i = 0; i < 12_000 && lone.endCode() === undefined; i++) lone.tell(PING, 0, pattern(16, i));
    assert.equal(lone.endCode(), "session_stalled");
    const heard = lone.heard().filter(({ type }) => type === PONG).length;
    assert.ok(heard > 8_000 && heard < 12_000, `${heard}`);
  });

  it("a flood of frames that do no work is read so many at a time, over all streams, and not at all in between", () => {
    const lone = new LoneQuic().started();
    const { id } = lone.peerOpens();
    const ping = encodeCreditFrame(PING, 0, pattern(16, 1));
    const pings = Array.from({ length: IDLE_FRAMES_PER_WINDOW }, () => ping);
    lone.control.comes(new Uint8Array(Buffer.concat([...pings, ...pings])));
    assert.ok(lone.control.paused);
    const stream = lone.quic.get(id)!;
    stream.comes(encodeCreditFrame(DATA, 0, pattern(9, 1)));
    assert.ok(stream.paused, "the others wait, too");
    assert.equal(lone.session.bytesReceived, 0);
    const answered = () => lone.heard().filter(({ type }) => type === PONG).length;
    assert.ok(answered() <= IDLE_FRAMES_PER_WINDOW);
    lone.settle();
    assert.deepEqual([lone.control.paused, stream.paused, lone.session.bytesReceived], [false, false, 9]);
    assert.equal(lone.endCode(), undefined);
  });

  it("CREDIT on the control stream is the session's, whatever number it says", () => {
    const lone = new LoneQuic().started();
    const bytes = new Uint8Array(encodeCreditFrame(CREDIT, 7, new Uint8Array([0, 0, 1, 0])));
    lone.control.comes(bytes);
    assert.equal(lone.endCode(), undefined);
  });
});
