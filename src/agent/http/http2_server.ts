/**
 * HTTP/2 with one visitor (RFC 9113): each stream is passed on as an {@link Exchange}. It is our own because node:http2
 * needs a socket, and because Deno's ends the process when a visitor sends GOAWAY.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { type Bytes, concat } from "../../bytes/bytes.ts";
import { SallyportError } from "../../errors.ts";
import { FrameBudget } from "../../protocol/mux/frame_budget.ts";
import type { ByteStream, ByteStreamHandler, Timer } from "../../runtime/port.ts";
import type { Field } from "../../wire/http1/fields.ts";
import { HTTP_HEAD_MAX_BYTES } from "../../wire/http1/head.ts";
import {
  ACK,
  dataFrames,
  END_HEADERS,
  END_STREAM,
  FIRST_WINDOW_BYTES,
  FRAME_HEADER_BYTES,
  FRAME_MAX_BYTES,
  type FrameHeader,
  frameOf,
  FrameType,
  integersFrame,
  makeFrame,
  PADDED,
  PREFACE,
  PRIORITY,
  readFrameHeader,
  readSettings,
  readUint31,
  Reason,
  Setting,
  settingsFrame,
  WINDOW_MAX_BYTES,
} from "../../wire/http2/frames.ts";
import { encodeFields, HpackDecoder, HpackFault, NO_TABLE } from "../../wire/http2/hpack.ts";
import { areTrailers, readRequestFields } from "../../wire/http2/request.ts";
import { CoalescingWriter } from "./coalescing_writer.ts";
import { callHandler } from "./exchange.ts";
import { HTTP_HEAD_DEADLINE_MS, HTTP_KEEP_ALIVE_MS } from "./http1_server.ts";
import type { HttpConnection, HttpServerOptions } from "./http1_server.ts";
import { HTTP2_WINDOW_BYTES, type Http2Carrier, Http2Exchange, StreamFault } from "./http2_exchange.ts";

/** Concurrent requests on one visitor's connection. */
export const HTTP2_STREAMS_MAX = 128;
/** Bytes of all requests' bodies on a connection that a visitor may send ahead of their readers. */
export const HTTP2_CONNECTION_WINDOW_BYTES = 1024 * 1024;
/** CONTINUATION frames of one head. */
export const HTTP2_CONTINUATIONS_MAX = 64;
/** Answers to PING and SETTINGS that a visitor may leave unread. */
export const HTTP2_UNREAD_REPLIES_MAX = 1_000;
/** Bytes sent that the visitor hasn't read, above which its further requests are refused. */
export const HTTP2_UNREAD_BYTES_MAX = 1024 * 1024;
/**
 * The cost of a request that is invalid, or that the visitor takes back, in frames that do no work: it is decoded, and
 * ends a connection to the target.
 */
const RESET_COST = 20;
/** A window that grows by fewer bytes counts as a frame that does no work. */
const SMALL_WINDOW_BYTES = 256;
/** Streams that are over and whose numbers are remembered: frames for them may have crossed with their end. */
const RECENT_STREAMS_MAX = 256;
/** Interval at which idle requests and connections are looked for. */
const LOOK_MS = 15_000;

const PREFACE_BYTES = Buffer.from(PREFACE, "latin1");

/** A violation that ends the connection. */
class ConnectionFault extends Error {
  readonly reason: number;

  constructor(reason: number, why: string) {
    super(why);
    this.reason = reason;
  }
}

/** Serves HTTP/2 on a stream, which is taken over. */
export function serveHttp2(options: HttpServerOptions): HttpConnection {
  return new Http2Connection(options);
}

/** A head that is being received in several frames. */
interface PendingHead {
  readonly id: number;
  readonly endsStream: boolean;
  readonly parts: Bytes[];
  readonly sinceMs: number;
}

/** A body's frame that is being received; without an exchange its bytes are dropped. */
interface PendingBody {
  readonly exchange: Http2Exchange | undefined;
  readonly id: number;
  readonly endsStream: boolean;
  left: number;
}

class Http2Connection implements ByteStreamHandler, HttpConnection, Http2Carrier {
  readonly options: HttpServerOptions;
  readonly #writer: CoalescingWriter;
  readonly #stream: ByteStream;
  readonly #streams = new Map<number, Http2Exchange>();
  readonly #decoder = new HpackDecoder(HTTP_HEAD_MAX_BYTES);
  readonly #budget: FrameBudget;
  /** Bytes of the preface that have been received. */
  #prefaced = 0;
  /** Whether the visitor's settings have come, which it sends first. */
  #settled = false;
  /** A frame that isn't whole yet. */
  #partial: Bytes | undefined;
  #partialLength = 0;
  #body: PendingBody | undefined;
  #head: PendingHead | undefined;
  #lastId = 0;
  /** The streams that ended last, and whether by a reset. */
  readonly #recent = new Map<number, boolean>();
  #hasSentHead = false;
  #finishing = false;
  #over = false;
  #taking = true;
  #unreadReplies = 0;
  #sendWindow = FIRST_WINDOW_BYTES;
  /** The send window with which a stream begins. */
  #streamWindow = FIRST_WINDOW_BYTES;
  #receiveWindow = HTTP2_CONNECTION_WINDOW_BYTES;
  /** Bytes of bodies that have been read, and that the visitor hasn't been told of. */
  #unreported = 0;
  #timer: Timer | undefined;
  #idleSinceMs: number;

  constructor(options: HttpServerOptions) {
    this.options = options;
    this.#stream = options.stream;
    this.#writer = new CoalescingWriter(options.stream);
    this.#budget = new FrameBudget(options.clock);
    this.#idleSinceMs = options.clock.nowMs();
    this.#send(settingsFrame([
      [Setting.MAX_CONCURRENT_STREAMS, HTTP2_STREAMS_MAX],
      [Setting.INITIAL_WINDOW_SIZE, HTTP2_WINDOW_BYTES],
      [Setting.MAX_HEADER_LIST_SIZE, HTTP_HEAD_MAX_BYTES],
    ]));
    this.widen(0, HTTP2_CONNECTION_WINDOW_BYTES - FIRST_WINDOW_BYTES);
    this.#watch();
    this.#stream.attach(this);
  }

  finish(): void {
    if (this.#finishing || this.#over) return;
    this.#finishing = true;
    this.#send(integersFrame(FrameType.GOAWAY, 0, this.#lastId, Reason.NO_ERROR));
    this.#maybeEnd();
  }

  data(chunk: Bytes): void {
    try {
      for (let at = 0; at < chunk.length && !this.#over;) at += this.#read(chunk, at);
    } catch (error) {
      if (error instanceof ConnectionFault) this.#fail(error.reason, error.message);
      else if (error instanceof HpackFault) this.#fail(Reason.COMPRESSION_ERROR, error.message);
      // Too many frames that do no work.
      else if (error instanceof SallyportError) this.#fail(Reason.ENHANCE_YOUR_CALM, error.message);
      else throw error;
    }
  }

  end(): void {
    // A visitor that closes its side isn't waiting for responses: nothing else reveals one that has left.
    this.#loseAll(visitorLeft());
    this.#end();
  }

  drain(): void {
    this.#writer.drained();
    this.#taking = true;
    this.#unreadReplies = 0;
    this.#goOn();
  }

  close(error?: Error): void {
    this.#over = true;
    this.#timer?.cancel();
    this.#loseAll(error ?? visitorLeft());
    this.options.closed?.(error);
  }

  get taking(): boolean {
    return this.#taking;
  }

  get sendWindow(): number {
    return this.#sendWindow;
  }

  get bufferedBytes(): number {
    return this.#writer.bufferedBytes;
  }

  sendHead(id: number, fields: readonly Field[], endsStream: boolean): void {
    let block = encodeFields(fields);
    if (!this.#hasSentHead) block = concat([Uint8Array.of(NO_TABLE), block]);
    this.#hasSentHead = true;
    let flags = endsStream ? END_STREAM : 0;
    let type: number = FrameType.HEADERS;
    for (let at = 0; at < block.length; at += FRAME_MAX_BYTES) {
      const part = block.subarray(at, at + FRAME_MAX_BYTES);
      if (at + part.length === block.length) flags |= END_HEADERS;
      this.#send(frameOf(type, flags, id, part));
      type = FrameType.CONTINUATION;
      flags = 0;
    }
  }

  sendBody(id: number, piece: Bytes, endsStream: boolean): void {
    this.#sendWindow -= piece.length;
    this.#send(dataFrames(id, piece, endsStream));
  }

  bodyRead(byteLength: number): void {
    this.#unreported += byteLength;
    if (this.#over || this.#unreported < HTTP2_CONNECTION_WINDOW_BYTES / 2) return;
    this.#receiveWindow += this.#unreported;
    this.widen(0, this.#unreported);
    this.#unreported = 0;
  }

  widen(id: number, byteLength: number): void {
    this.#send(integersFrame(FrameType.WINDOW_UPDATE, id, byteLength));
  }

  exchangeOver(id: number, reason: number | undefined): void {
    if (!this.#streams.delete(id) || this.#over) return;
    this.#remember(id, reason !== undefined);
    if (reason !== undefined) this.#send(integersFrame(FrameType.RST_STREAM, id, reason));
    if (this.#streams.size > 0) return;
    this.#idleSinceMs = this.options.clock.nowMs();
    this.#maybeEnd();
  }

  /** Reads the preface, a frame, or a part of one; returns how many bytes that were. */
  #read(chunk: Bytes, at: number): number {
    if (this.#prefaced < PREFACE_BYTES.length) return this.#readPreface(chunk, at);
    if (this.#body !== undefined) return this.#readBody(this.#body, chunk, at);
    if (this.#partialLength > 0 || chunk.length - at < FRAME_HEADER_BYTES) return this.#collect(chunk, at);
    const header = readFrameHeader(chunk, at);
    if (this.#begin(header)) return FRAME_HEADER_BYTES;
    const byteLength = FRAME_HEADER_BYTES + header.byteLength;
    if (chunk.length - at < byteLength) return this.#collect(chunk, at);
    this.#frame(header, chunk.subarray(at + FRAME_HEADER_BYTES, at + byteLength));
    return byteLength;
  }

  #readPreface(chunk: Bytes, at: number): number {
    const length = Math.min(PREFACE_BYTES.length - this.#prefaced, chunk.length - at);
    const expected = PREFACE_BYTES.subarray(this.#prefaced, this.#prefaced + length);
    if (!expected.equals(chunk.subarray(at, at + length))) {
      throw new ConnectionFault(Reason.PROTOCOL_ERROR, "it doesn't begin with HTTP/2's preface");
    }
    this.#prefaced += length;
    return length;
  }

  /** Collects a frame of which a part is in this chunk. */
  #collect(chunk: Bytes, at: number): number {
    this.#partial ??= new Uint8Array(FRAME_HEADER_BYTES + FRAME_MAX_BYTES);
    const known = this.#partialLength;
    const byteLength = known < FRAME_HEADER_BYTES
      ? FRAME_HEADER_BYTES
      : FRAME_HEADER_BYTES + readFrameHeader(this.#partial, 0).byteLength;
    const part = chunk.subarray(at, at + byteLength - known);
    this.#partial.set(part, known);
    this.#partialLength += part.length;
    if (this.#partialLength < byteLength) return part.length;
    const frame = this.#partial;
    const header = readFrameHeader(frame, 0);
    const isBody = known < FRAME_HEADER_BYTES && this.#begin(header);
    if (!isBody && byteLength < FRAME_HEADER_BYTES + header.byteLength) return part.length;
    this.#partial = undefined;
    this.#partialLength = 0;
    if (!isBody) this.#frame(header, frame.subarray(FRAME_HEADER_BYTES, byteLength));
    return part.length;
  }

  /** Checks a frame's header. Returns whether a body begins, which is passed on as it comes. */
  #begin({ byteLength, type, flags, id }: FrameHeader): boolean {
    if (byteLength > FRAME_MAX_BYTES) {
      throw new ConnectionFault(Reason.FRAME_SIZE_ERROR, `a frame exceeds ${FRAME_MAX_BYTES} bytes`);
    }
    if (!this.#settled && type !== FrameType.SETTINGS) {
      throw new ConnectionFault(Reason.PROTOCOL_ERROR, "its first frame isn't SETTINGS");
    }
    if (this.#head !== undefined && (type !== FrameType.CONTINUATION || id !== this.#head.id)) {
      throw new ConnectionFault(Reason.PROTOCOL_ERROR, "another frame interrupts a head");
    }
    if (type !== FrameType.DATA || (flags & PADDED) !== 0) return false;
    this.#beginBody(id, (flags & END_STREAM) !== 0, byteLength, 0);
    return true;
  }

  #beginBody(id: number, endsStream: boolean, byteLength: number, padding: number): void {
    this.#checkOpened(id);
    this.#receiveWindow -= byteLength + padding;
    if (this.#receiveWindow < 0) {
      throw new ConnectionFault(Reason.FLOW_CONTROL_ERROR, "bodies exceed the connection's window");
    }
    if (byteLength === 0 && !endsStream) this.#budget.spend();
    this.bodyRead(padding);
    let exchange = this.#streams.get(id);
    if (exchange === undefined) this.#refuseLateBody(id);
    else if (!this.#within(id, () => exchange?.expectBody(byteLength, padding))) {
      exchange = undefined;
    }
    this.#body = { exchange, id, endsStream, left: byteLength };
    if (byteLength === 0) this.#endBody(this.#body);
  }

  #readBody(body: PendingBody, chunk: Bytes, at: number): number {
    const piece = chunk.subarray(at, at + body.left);
    body.left -= piece.length;
    if (body.exchange === undefined) this.bodyRead(piece.length);
    else body.exchange.receive(piece);
    if (body.left === 0) this.#endBody(body);
    return piece.length;
  }

  #endBody({ exchange, id, endsStream }: PendingBody): void {
    this.#body = undefined;
    if (exchange !== undefined && endsStream) this.#within(id, () => exchange.receiveEnd());
  }

  #frame({ type, flags, id }: FrameHeader, payload: Bytes): void {
    switch (type) {
      case FrameType.DATA: {
        const body = unpadded(flags, payload);
        this.#beginBody(id, (flags & END_STREAM) !== 0, body.length, payload.length - body.length);
        if (this.#body !== undefined) this.#readBody(this.#body, body, 0);
        return;
      }
      case FrameType.HEADERS:
        return this.#takeHead(flags, id, payload);
      case FrameType.CONTINUATION:
        return this.#takeContinuation(flags, payload);
      case FrameType.RST_STREAM:
        return this.#takeReset(id, payload);
      case FrameType.SETTINGS:
        return this.#takeSettings(flags, id, payload);
      case FrameType.PING:
        return this.#takePing(flags, id, payload);
      case FrameType.WINDOW_UPDATE:
        return this.#takeWindow(id, payload);
      case FrameType.PRIORITY:
        if (id === 0) throw new ConnectionFault(Reason.PROTOCOL_ERROR, "PRIORITY names no stream");
        this.#budget.spend();
        if (payload.length !== 5) this.#reset(id, Reason.FRAME_SIZE_ERROR);
        return;
      case FrameType.GOAWAY:
        if (id !== 0) throw new ConnectionFault(Reason.PROTOCOL_ERROR, "GOAWAY names a stream");
        // The visitor opens no further streams; it closes the connection itself.
        return this.#budget.spend();
      case FrameType.PUSH_PROMISE:
        throw new ConnectionFault(Reason.PROTOCOL_ERROR, "only servers push");
      default:
        this.#budget.spend();
    }
  }

  #takeHead(flags: number, id: number, payload: Bytes): void {
    if (id % 2 === 0) throw new ConnectionFault(Reason.PROTOCOL_ERROR, "a request has an even stream ID");
    let block = unpadded(flags, payload);
    if ((flags & PRIORITY) !== 0) {
      if (block.length < 5) throw new ConnectionFault(Reason.FRAME_SIZE_ERROR, "HEADERS is too short");
      block = block.subarray(5);
    }
    const endsStream = (flags & END_STREAM) !== 0;
    if ((flags & END_HEADERS) !== 0) return this.#takeBlock(id, endsStream, block);
    this.#head = { id, endsStream, parts: [block.slice()], sinceMs: this.options.clock.nowMs() };
  }

  #takeContinuation(flags: number, payload: Bytes): void {
    const head = this.#head;
    if (head === undefined) {
      throw new ConnectionFault(Reason.PROTOCOL_ERROR, "CONTINUATION belongs to no head");
    }
    head.parts.push(payload.slice());
    const byteLength = head.parts.reduce((sum, part) => sum + part.length, 0);
    if (byteLength > HTTP_HEAD_MAX_BYTES || head.parts.length > HTTP2_CONTINUATIONS_MAX) {
      throw new ConnectionFault(Reason.ENHANCE_YOUR_CALM, `a head exceeds ${HTTP_HEAD_MAX_BYTES} bytes`);
    }
    if ((flags & END_HEADERS) === 0) return;
    this.#head = undefined;
    this.#takeBlock(head.id, head.endsStream, concat(head.parts));
  }

  #takeBlock(id: number, endsStream: boolean, block: Bytes): void {
    // Decoded in any case: later blocks refer to it.
    const fields = this.#decoder.decode(block);
    const known = this.#streams.get(id);
    if (known !== undefined) {
      this.#within(id, () => {
        if (!known.isReceiving) {
          throw new StreamFault(Reason.STREAM_CLOSED, "a head follows the end of its request");
        }
        if (!endsStream || fields === undefined || !areTrailers(fields)) {
          throw new StreamFault(Reason.PROTOCOL_ERROR, "a head interrupts a body");
        }
        known.receiveEnd();
      });
      return;
    }
    if (id <= this.#lastId) return this.#takeLateHead(id);
    this.#lastId = id;
    const isUnread = !this.#taking && this.#writer.bufferedBytes > HTTP2_UNREAD_BYTES_MAX;
    if (this.#finishing || isUnread || this.#streams.size >= HTTP2_STREAMS_MAX) {
      this.#budget.spend(RESET_COST);
      return this.#reset(id, Reason.REFUSED_STREAM);
    }
    const outcome = fields === undefined ? TOO_LARGE : readRequestFields(fields);
    if (outcome.kind !== "head") this.#budget.spend(RESET_COST);
    if (outcome.kind === "malformed") return this.#reset(id, Reason.PROTOCOL_ERROR);
    if (outcome.kind !== "head") {
      this.sendHead(id, [[":status", outcome.kind === "bad" ? "400" : "431"]], true);
      if (!endsStream) this.#reset(id, Reason.NO_ERROR);
      return;
    }
    const options = { hasBody: !endsStream, sendWindow: this.#streamWindow };
    const exchange = new Http2Exchange(this, id, outcome.head, options);
    this.#streams.set(id, exchange);
    if (endsStream && !this.#within(id, () => exchange.receiveEnd())) return;
    callHandler(this.options.handler, exchange);
  }

  /** A head for a stream that is over: trailers may have crossed with its reset. */
  #takeLateHead(id: number): void {
    this.#budget.spend();
    const wasReset = this.#recent.get(id);
    if (wasReset === true) return;
    const reason = wasReset === undefined ? Reason.PROTOCOL_ERROR : Reason.STREAM_CLOSED;
    throw new ConnectionFault(reason, "a request has the stream ID of an earlier one");
  }

  #takeReset(id: number, payload: Bytes): void {
    if (payload.length !== 4) throw new ConnectionFault(Reason.FRAME_SIZE_ERROR, "RST_STREAM has 4 bytes");
    this.#checkOpened(id);
    this.#budget.spend(RESET_COST);
    this.#lose(id, visitorLeft());
  }

  #takeSettings(flags: number, id: number, payload: Bytes): void {
    if (id !== 0) throw new ConnectionFault(Reason.PROTOCOL_ERROR, "SETTINGS names a stream");
    const isAck = (flags & ACK) !== 0;
    if (isAck ? payload.length > 0 : payload.length % 6 !== 0) {
      throw new ConnectionFault(Reason.FRAME_SIZE_ERROR, "SETTINGS isn't a list of settings");
    }
    this.#settled = true;
    this.#budget.spend(1 + payload.length / 6);
    if (isAck) return;
    for (const [setting, value] of readSettings(payload)) this.#set(setting, value);
    this.#reply(makeFrame(FrameType.SETTINGS, ACK, 0, 0));
    this.#goOn();
  }

  #set(setting: number, value: number): void {
    const isValid = setting === Setting.ENABLE_PUSH
      ? value <= 1
      : setting !== Setting.MAX_FRAME_SIZE || (value >= FRAME_MAX_BYTES && value < 2 ** 24);
    if (!isValid) throw new ConnectionFault(Reason.PROTOCOL_ERROR, `setting ${setting} can't be ${value}`);
    if (setting !== Setting.INITIAL_WINDOW_SIZE) return;
    if (value > WINDOW_MAX_BYTES) {
      throw new ConnectionFault(Reason.FLOW_CONTROL_ERROR, "a window exceeds 2^31-1");
    }
    const more = value - this.#streamWindow;
    this.#streamWindow = value;
    for (const [id, exchange] of [...this.#streams]) {
      this.#within(id, () => exchange.moveSendWindow(more));
    }
  }

  #takePing(flags: number, id: number, payload: Bytes): void {
    if (id !== 0) throw new ConnectionFault(Reason.PROTOCOL_ERROR, "PING names a stream");
    if (payload.length !== 8) throw new ConnectionFault(Reason.FRAME_SIZE_ERROR, "PING has 8 bytes");
    this.#budget.spend();
    if ((flags & ACK) === 0) this.#reply(frameOf(FrameType.PING, ACK, 0, payload));
  }

  #takeWindow(id: number, payload: Bytes): void {
    if (payload.length !== 4) throw new ConnectionFault(Reason.FRAME_SIZE_ERROR, "WINDOW_UPDATE has 4 bytes");
    const byteLength = readUint31(payload, 0);
    if (byteLength < SMALL_WINDOW_BYTES) this.#budget.spend();
    if (id !== 0) {
      this.#checkOpened(id);
      const exchange = this.#streams.get(id);
      // A stream that is over may get some late.
      if (exchange === undefined) return this.#budget.spend();
      this.#within(id, () => {
        if (byteLength === 0) throw new StreamFault(Reason.PROTOCOL_ERROR, "a window grows by 0 bytes");
        exchange.moveSendWindow(byteLength);
      });
      exchange.goOn();
      return;
    }
    if (byteLength === 0) throw new ConnectionFault(Reason.PROTOCOL_ERROR, "a window grows by 0 bytes");
    const wasShut = this.#sendWindow <= 0;
    this.#sendWindow += byteLength;
    if (this.#sendWindow > WINDOW_MAX_BYTES) {
      throw new ConnectionFault(Reason.FLOW_CONTROL_ERROR, "a window exceeds 2^31-1");
    }
    if (wasShut) this.#goOn();
  }

  /** Lets the streams send what waits; one that has sent goes to the end of the line. */
  #goOn(): void {
    for (const [id, exchange] of [...this.#streams]) {
      if (exchange.goOn() && this.#streams.delete(id)) this.#streams.set(id, exchange);
    }
  }

  /** Confines a violation to its stream; returns whether there was none. */
  #within(id: number, call: () => void): boolean {
    try {
      call();
      return true;
    } catch (error) {
      if (!(error instanceof StreamFault)) throw error;
      this.#budget.spend();
      const why = `Connection lost: the visitor breaks HTTP/2: ${error.message}`;
      this.#lose(id, new SallyportError("connection_lost", why, { side: "peer" }));
      this.#reset(id, error.reason);
      return false;
    }
  }

  /** A frame for a stream that has never been opened is a violation. */
  #checkOpened(id: number): void {
    if (id === 0 || id > this.#lastId) {
      throw new ConnectionFault(Reason.PROTOCOL_ERROR, "a frame belongs to no request");
    }
  }

  /** A part of a body for a stream that is over: it may have crossed with a reset. */
  #refuseLateBody(id: number): void {
    this.#budget.spend();
    if (this.#recent.get(id) !== true) this.#reset(id, Reason.STREAM_CLOSED);
  }

  #remember(id: number, wasReset: boolean): void {
    this.#recent.set(id, wasReset);
    if (this.#recent.size > RECENT_STREAMS_MAX) this.#recent.delete(this.#recent.keys().next().value!);
  }

  #lose(id: number, error: Error): void {
    const exchange = this.#streams.get(id);
    this.exchangeOver(id, undefined);
    exchange?.lost(error);
  }

  #loseAll(error: Error): void {
    const exchanges = [...this.#streams.values()];
    this.#streams.clear();
    for (const exchange of exchanges) exchange.lost(error);
  }

  #reset(id: number, reason: number): void {
    this.#remember(id, true);
    this.#reply(integersFrame(FrameType.RST_STREAM, id, reason));
  }

  /** Sends a frame that the visitor has provoked. */
  #reply(frame: Bytes): void {
    if (!this.#taking && ++this.#unreadReplies > HTTP2_UNREAD_REPLIES_MAX) {
      throw new ConnectionFault(Reason.ENHANCE_YOUR_CALM, "it causes answers that it doesn't read");
    }
    this.#send(frame);
  }

  #send(frame: Bytes): void {
    if (!this.#over) this.#taking = this.#writer.write(frame);
  }

  #fail(reason: number, why: string): void {
    const text = new Uint8Array(Buffer.from(why, "utf8"));
    const goAway = integersFrame(FrameType.GOAWAY, 0, this.#lastId, reason);
    this.#send(frameOf(FrameType.GOAWAY, 0, 0, concat([goAway.subarray(FRAME_HEADER_BYTES), text])));
    const error = `Connection lost: the visitor breaks HTTP/2: ${why}`;
    this.#loseAll(new SallyportError("connection_lost", error, { side: "peer" }));
    this.#end();
  }

  #maybeEnd(): void {
    if (this.#finishing && this.#streams.size === 0) this.#end();
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#timer?.cancel();
    this.#writer.flush();
    this.#stream.release();
  }

  /** Looks for what is idle or late, now and then. */
  #watch(): void {
    const { clock, idleTimeoutMs } = this.options;
    this.#timer = clock.after(Math.min(LOOK_MS, idleTimeoutMs), () => {
      const nowMs = clock.nowMs();
      for (const [id, exchange] of [...this.#streams]) {
        if (exchange.idleMs(nowMs) < idleTimeoutMs) continue;
        const why = `Cannot keep request: no byte in either direction for ${idleTimeoutMs / 1000} s`;
        this.#send(integersFrame(FrameType.RST_STREAM, id, Reason.CANCEL));
        this.#lose(id, new SallyportError("session_idle", why, { side: "peer" }));
      }
      const limitMs = this.#settled ? HTTP_KEEP_ALIVE_MS : HTTP_HEAD_DEADLINE_MS;
      const headSinceMs = this.#head?.sinceMs ?? nowMs;
      if (nowMs - headSinceMs >= HTTP_HEAD_DEADLINE_MS) {
        this.#fail(Reason.ENHANCE_YOUR_CALM, "a head isn't complete in time");
      } else if (this.#streams.size === 0 && nowMs - this.#idleSinceMs >= limitMs) this.finish();
      if (!this.#over) this.#watch();
    });
  }
}

const TOO_LARGE = { kind: "too large" } as const;

/** A payload without its padding. */
function unpadded(flags: number, payload: Bytes): Bytes {
  if ((flags & PADDED) === 0) return payload;
  const padding = payload[0];
  if (padding === undefined) throw new ConnectionFault(Reason.FRAME_SIZE_ERROR, "a frame lacks its padding");
  if (padding >= payload.length) {
    throw new ConnectionFault(Reason.PROTOCOL_ERROR, "a frame is shorter than its padding");
  }
  return payload.subarray(1, payload.length - padding);
}

function visitorLeft(): SallyportError {
  return new SallyportError("connection_lost", "Connection lost: the visitor has left", { side: "peer" });
}
