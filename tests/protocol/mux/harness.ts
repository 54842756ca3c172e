/**
 * Two multiplexers joined by a wire in virtual time: bytes travel in random pieces, nothing sleeps.
 */
import { IDLE_WINDOW_MS } from "../../../src/protocol/mux/frame_budget.ts";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import { type CipherName, createOpener, createSealer } from "../../../src/crypto/header_cipher.ts";
import type { ErrorCode, SallyportError } from "../../../src/errors.ts";
import type { Multiplexer, MuxHost } from "../../../src/protocol/mux/host.ts";
import { SendScratch } from "../../../src/protocol/mux/snitun/sender.ts";
import { type MuxOptions, MuxSession } from "../../../src/protocol/mux/snitun/session.ts";
import type { MuxStream } from "../../../src/protocol/mux/snitun/stream.ts";
import { seeded } from "../../support/seeded.ts";
import type { ByteStreamHandler } from "../../../src/runtime/port.ts";

/** One side: a multiplexer and the host that drives it. */
export class Side<
  Mux extends Multiplexer<Stream>,
  Stream,
> implements MuxHost<Stream> {
  readonly mux: Mux;
  readonly streams: Stream[] = [];
  readonly closedStreams: Stream[] = [];
  wentAway: ErrorCode | undefined;
  readonly refusals: ErrorCode[] = [];
  endedWith: SallyportError | undefined;
  /** Bytes on their way to the peer. */
  readonly wire: Bytes[] = [];
  wireBytes = 0;
  written: Bytes[] = [];
  holding = false;
  woken = false;
  armedMs = Infinity;
  blocked = false;
  onStream: (stream: Stream) => void = () => {};
  readonly #world: WireWorld<Mux, Stream>;
  readonly #windowBytes: number;

  constructor(world: WireWorld<Mux, Stream>, windowBytes: number, make: (host: MuxHost<Stream>) => Mux) {
    this.#world = world;
    this.#windowBytes = windowBytes;
    this.mux = make(this);
  }

  write(bytes: Bytes): boolean {
    this.wire.push(bytes.slice());
    this.wireBytes += bytes.length;
    if (this.#world.record) this.written.push(bytes.slice());
    this.blocked = this.wireBytes >= this.#windowBytes;
    return !this.blocked;
  }
  wake(): void {
    this.woken = true;
  }
  arm(atMs: number): void {
    this.armedMs = Math.min(this.armedMs, atMs);
  }
  nowMs(): number {
    return this.#world.nowMs;
  }
  holdReading(hold: boolean): void {
    this.holding = hold;
  }
  opened(stream: Stream): void {
    this.streams.push(stream);
    this.onStream(stream);
  }
  refused(code: ErrorCode): void {
    this.refusals.push(code);
  }
  closed(stream: Stream): void {
    this.closedStreams.push(stream);
  }
  goingAway(code: ErrorCode): void {
    this.wentAway = code;
  }
  ended(error: SallyportError): void {
    this.endedWith = error;
  }

  /** Takes up to `length` bytes off the wire. */
  take(length: number): Bytes {
    const first = this.wire[0];
    const piece = first.slice(0, length);
    if (piece.length === first.length) this.wire.shift();
    else this.wire[0] = first.subarray(piece.length) as Bytes;
    this.wireBytes -= piece.length;
    return piece;
  }
}

/** What a wire does. */
export interface WireOptions {
  readonly windowBytes?: number;
  readonly random?: () => number;
  /** Largest piece in which bytes arrive. */
  readonly pieceBytes?: number;
  readonly record?: boolean;
}

/** What a {@link World} is made of. */
export interface WorldOptions extends WireOptions {
  readonly cipher?: CipherName;
  readonly protocolVersion?: 0 | 1 | 2;
  readonly edge?: Partial<MuxOptions>;
  readonly agent?: Partial<MuxOptions>;
}

const KEY: Bytes = new Uint8Array(32).fill(7);
const IV: Bytes = new Uint8Array(16).fill(9);

/** An edge and an agent after their handshake, of any dialect. */
export class WireWorld<Mux extends Multiplexer<Stream>, Stream> {
  nowMs = 1000;
  readonly record: boolean;
  readonly edge: Side<Mux, Stream>;
  readonly agent: Side<Mux, Stream>;
  readonly random: () => number;
  readonly #pieceBytes: number;

  constructor(options: WireOptions, make: (role: "edge" | "agent", host: MuxHost<Stream>) => Mux) {
    const windowBytes = options.windowBytes ?? 256 * 1024;
    this.record = options.record ?? false;
    this.random = options.random ?? seeded(1);
    this.#pieceBytes = options.pieceBytes ?? 96 * 1024;
    this.edge = new Side(this, windowBytes, (host) => make("edge", host));
    this.agent = new Side(this, windowBytes, (host) => make("agent", host));
    this.edge.mux.start();
    this.agent.mux.start();
  }

  /** Does one thing that can be done, chosen at random; false when nothing moves without time passing. */
  step(): boolean {
    const moves: (() => void)[] = [];
    for (const [from, to] of [[this.edge, this.agent], [this.agent, this.edge]] as const) {
      if (from.woken) {
        moves.push(() => {
          from.woken = false;
          from.mux.turn();
        });
      }
      if (from.wire.length > 0 && !to.holding) moves.push(() => this.#deliver(from, to));
    }
    if (moves.length === 0) return false;
    moves[Math.floor(this.random() * moves.length)]();
    return true;
  }

  /** Runs until nothing moves. */
  settle(maxSteps = 2_000_000): void {
    for (let i = 0; this.step() || this.#rested(); i++) {
      if (i > maxSteps) throw new Error("The simulation doesn't come to rest");
    }
  }

  /** Lets the moment pass for which a side doesn't read frames without work. */
  #rested(): boolean {
    const { nowMs } = this;
    // Protected: nobody but a test has to know.
    const side = [this.edge, this.agent].find(({ mux, armedMs }) =>
      (mux as { intake?: { waiting: boolean } }).intake?.waiting === true && armedMs <= nowMs + IDLE_WINDOW_MS
    );
    if (side === undefined) return false;
    this.nowMs = Math.max(nowMs, side.armedMs);
    side.armedMs = Infinity;
    side.mux.tick();
    return true;
  }

  /** Lets time pass, with every deadline in between. */
  advance(ms: number): void {
    const until = this.nowMs + ms;
    for (;;) {
      this.settle();
      const next = Math.min(this.edge.armedMs, this.agent.armedMs);
      if (next > until) break;
      this.nowMs = Math.max(this.nowMs, next);
      for (const side of [this.edge, this.agent]) {
        if (side.armedMs > this.nowMs) continue;
        side.armedMs = Infinity;
        side.mux.tick();
      }
    }
    this.nowMs = until;
    this.settle();
  }

  #deliver(from: Side<Mux, Stream>, to: Side<Mux, Stream>): void {
    const piece = from.take(1 + Math.floor(this.random() * this.#pieceBytes));
    to.mux.receive(piece);
    if (from.blocked && from.wireBytes === 0) {
      from.blocked = false;
      from.mux.writable();
    }
  }
}

/** SniTun's edge and agent. */
export class World extends WireWorld<MuxSession, MuxStream> {
  constructor(options: WorldOptions = {}) {
    const cipher = options.cipher ?? "aes-gcm";
    const protocolVersion = options.protocolVersion ?? 2;
    const scratch = new SendScratch();
    super(options, (role, host) =>
      new MuxSession({
        role,
        protocolVersion,
        sealer: createSealer(cipher, KEY, IV, role),
        opener: createOpener(cipher, KEY, IV, role === "edge" ? "agent" : "edge"),
        scratch,
        ...options[role],
        host,
      }));
  }
}

/** A handler that keeps everything; `paused` streams are resumed by the test. */
export class Recorder implements ByteStreamHandler {
  readonly chunks: Bytes[] = [];
  byteLength = 0;
  ends = 0;
  closes = 0;
  drains = 0;
  error: Error | undefined;
  readonly events: string[] = [];
  onData: (chunk: Bytes) => void = () => {};

  data(chunk: Bytes): void {
    this.chunks.push(chunk.slice());
    this.byteLength += chunk.length;
    this.events.push("data");
    this.onData(chunk);
  }
  end(): void {
    this.ends++;
    this.events.push("end");
  }
  drain(): void {
    this.drains++;
  }
  close(error?: Error): void {
    this.closes++;
    this.error = error;
    this.events.push("close");
  }
  get bytes(): Bytes {
    const all = new Uint8Array(this.byteLength);
    let at = 0;
    for (const chunk of this.chunks) {
      all.set(chunk, at);
      at += chunk.length;
    }
    return all;
  }
}
