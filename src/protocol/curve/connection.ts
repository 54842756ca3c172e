/**
 * One connection, without IO or clock. Inputs: packets and the time. Outputs: packets, events and the next deadline.
 * The handshakes are in `client.ts` and `server.ts`; the format is docs/protocols/curve.md.
 *
 * @module
 */
import { type Bytes, concat } from "../../bytes/bytes.ts";
import { type Address, type ByteStreamHandler, LINGER_MS } from "../../runtime/port.ts";
import type { RandomSource } from "../../crypto/random.ts";
import { errorCode, type InternalError, internalError, SallyportError } from "../../errors.ts";
import type { CurveOptions } from "./options.ts";
import { type Envelope, type PacketOut, Sender } from "./sender.ts";
import { brokenFrame, type CurveStream, type OwnedStream } from "./streams/stream.ts";
import { AckTracker } from "./recovery/acks.ts";
import { codeOfWire, wireCode } from "../../wire/curve/error_number.ts";
import { AckRanges, type FrameSink, readFrames } from "../../wire/curve/curve_frame.ts";
import type { PacketKey } from "./key_schedule.ts";
import { DATAGRAM_MIN_BYTES, headBytes, readNumber } from "../../wire/curve/curve_packet.ts";
import { PathState } from "./path.ts";
import { ReplayWindow } from "./replay_window.ts";
import { type CurveGauges, CurveStats } from "./stats.ts";
import { CONTROL_STREAM_BYTES, StreamSet } from "./streams/stream_set.ts";

/** A connection must end after this many packets that failed to decrypt (docs/protocols/curve.md). */
const FORGERIES_MAX = 2 ** 36;

/** Shared by all connections of a socket. */
export interface CurveIo extends PacketOut {
  /** Requests a call of `connection.turn()` soon, after the events being handled. */
  wake(connection: CurveConnection): void;
  /** Buffer for decrypted packets, valid until the next packet. */
  readonly plain: Bytes;
  readonly random: RandomSource;
}

/** Receives the events of a connection. Called from within receive, turn and tick, never from another method. */
export interface CurveHandler {
  /** Client: the server has admitted us, with these bytes. Server: the client's credential arrived; admit or close. */
  introduced(bytes: Bytes): void;
  /** The peer has opened a stream. Not before `introduced`. */
  stream(stream: OwnedStream): void;
  /** A stream is over. */
  streamClosed(stream: OwnedStream): void;
  /** A stream's handler has thrown: the stream is over, the connection continues. */
  fault?(error: InternalError): void;
  /** The connection is over. This is the last call. */
  closed(error: SallyportError): void;
}

/** Dependencies of a connection. */
interface ConnectionParts {
  readonly role: "client" | "server";
  readonly options: CurveOptions;
  readonly io: CurveIo;
  readonly peer: Address;
  /** Packet format until {@link CurveConnection.confirm}. */
  readonly envelope: Envelope;
  /** Server: an id that the client must use, announced in READY. Defaults to the id derived from the keys. */
  readonly idForPeer?: Bytes | undefined;
  readonly nowMs: number;
}

/** Collects the message on the control stream. */
class ControlMessage implements ByteStreamHandler {
  #bytes: Bytes = new Uint8Array(0);
  /** The message is complete. */
  ready = false;

  data(chunk: Bytes): void {
    this.#bytes = concat([this.#bytes, chunk]);
  }
  end(): void {
    this.ready = true;
  }
  drain(): void {}
  close(): void {}

  /** Returns the bytes once and drops them. */
  take(): Bytes {
    const bytes = this.#bytes;
    this.#bytes = new Uint8Array(0);
    return bytes;
  }
}

/** One connection, in either role. */
export class CurveConnection {
  readonly options: CurveOptions;
  readonly stats: CurveStats = new CurveStats();
  readonly path: PathState;
  handler: CurveHandler | undefined;
  /** The channel binding for the credential's proof; empty until the keys are agreed. */
  channel: Bytes = new Uint8Array(0);
  /** Client: the id that the server wants in packets to it, if it has announced one. */
  announcedId: Bytes | undefined;
  /** For {@link CurveIo.wake}: the connection is queued. */
  awake = false;
  readonly #io: CurveIo;
  readonly #client: boolean;
  readonly #streams: StreamSet;
  readonly #sender: Sender;
  readonly #replay = new ReplayWindow();
  readonly #acks = new AckTracker();
  readonly #ranges = new AckRanges();
  readonly #sink: FrameSink;
  #openKey: PacketKey | undefined;
  #phase: "handshake" | "open" | "closing" | "closed" = "handshake";
  #admitted = false;
  #introduced = false;
  #introductionBytes = 0;
  readonly #controlMessage = new ControlMessage();
  /** Streams opened by the peer before the introduction arrived. */
  #early: CurveStream[] = [];
  #startedMs: number;
  #receivedMs: number;
  #nowMs: number;
  #from: Address;
  #handshakeWanted = false;
  #closeError: SallyportError | undefined;
  #closeOwed = false;
  /** Set in the turn that sends CLOSE, since the time of an outside call isn't known. */
  #closeUntilMs = Infinity;
  #heardClosing = 0;
  #told = false;

  constructor(parts: ConnectionParts) {
    const { options, io, nowMs } = parts;
    this.options = options;
    this.#io = io;
    this.#client = parts.role === "client";
    this.#from = { host: parts.peer.host, port: parts.peer.port };
    this.path = new PathState(this.#from, io.random);
    this.#streams = new StreamSet(
      {
        nowMs: () => this.#nowMs,
        wake: () => this.#wake(),
        opened: (stream) => this.#opened(stream),
        closed: (stream) => this.handler?.streamClosed(stream),
        duplicate: () => void this.stats.duplicates++,
        fault: (error) => this.handler?.fault?.(error),
      },
      options,
      this.#client ? 2 : 1,
    );
    this.#sender = new Sender({
      options,
      out: io,
      envelope: parts.envelope,
      idForPeer: parts.idForPeer,
      acks: this.#acks,
      streams: this.#streams,
      path: this.path,
      stats: this.stats,
      nowMs,
    });
    this.#startedMs = this.#receivedMs = this.#nowMs = nowMs;
    this.#sink = this.#makeSink();
    this.#streams.control.attach(this.#controlMessage);
  }

  /** The connection has ended, and its handler has been notified. */
  get over(): boolean {
    return this.#phase === "closed" && this.#told;
  }
  /** Both sides have proved their keys. */
  get confirmed(): boolean {
    return this.#phase !== "handshake";
  }
  /** The server has admitted the client. */
  get admitted(): boolean {
    return this.#admitted;
  }
  /** Streams open now. */
  get streams(): number {
    return this.#streams.open;
  }
  /** Consecutive probe time-outs: the path may be dead. */
  get probesInVain(): number {
    return this.#sender.recovery.ptoCount;
  }
  /** The connection's current state; also updates {@link stats}. */
  get gauges(): CurveGauges {
    const { rtt, control, recovery, datagramBytes } = this.#sender;
    this.stats.bytesResent = this.#streams.bytesResent;
    this.stats.reordered = this.#acks.reordered;
    this.stats.pathMoves = this.path.moves;
    return {
      rttLastMs: rtt.latestMs,
      rttMinMs: rtt.measured ? rtt.minMs : 0,
      rttSmoothedMs: rtt.measured ? rtt.smoothedMs : 0,
      windowBytes: control.windowBytes,
      inFlightBytes: recovery.inFlightBytes,
      datagramBytes,
      streams: this.streams,
    };
  }

  // For the owner.

  /** Server: admits the client, with bytes for it (at most 16,384). */
  admit(welcome: Bytes): void {
    if (this.#client || this.#admitted || this.#phase !== "open") return;
    this.#admitted = true;
    this.introduce(welcome);
    this.introduced();
  }

  /**
   * Client: appends a part of the credential. Parts appended before the first INIT are sent with it. Throws
   * `limit_exceeded` if all parts together are too long.
   */
  introduce(bytes: Bytes): void {
    this.#introductionBytes += bytes.length;
    if (this.#introductionBytes > CONTROL_STREAM_BYTES) {
      const why = `it has ${this.#introductionBytes} bytes, at most ${CONTROL_STREAM_BYTES}`;
      throw new SallyportError("limit_exceeded", `Cannot send credential: ${why}`, { side: "local" });
    }
    this.#streams.control.write(bytes);
  }

  /** Client: the credential is complete. */
  introduced(): void {
    this.#streams.control.closeWrite();
  }

  /** Opens a stream. Throws the error that ended the connection, `closed` before admission, or `limit_exceeded`. */
  open(): OwnedStream {
    if (this.#phase !== "open" || !this.#admitted) {
      throw this.#closeError ??
        new SallyportError("closed", "Cannot open stream: the session isn't open yet", { side: "local" });
    }
    this.stats.streamsOpened++;
    return this.#streams.create();
  }

  /** Ends the connection, and sends the reason to the peer. The handler is notified in the next turn. */
  close(error: SallyportError): void {
    if (this.#phase === "closing" || this.#phase === "closed") return;
    // A client whose INIT wasn't answered has no peer to notify.
    this.#closeOwed = this.#phase === "open" || !this.#client;
    this.#phase = this.#closeOwed ? "closing" : "closed";
    this.#closeError = error;
    this.#wake();
  }

  /** Sends something, so that the peer learns of a new address. */
  ping(): void {
    this.#sender.pings = Math.max(1, this.#sender.pings);
    this.#wake();
  }

  // For the handshakes.

  /** Client: sets the INIT envelope for a new cookie. */
  setEnvelope(envelope: Envelope): void {
    this.#sender.envelope = envelope;
  }

  /** The keys are agreed: from now on packets are DATA, opened with this key. */
  confirm(envelope: Envelope, openKey: PacketKey): void {
    if (this.#phase === "handshake") this.#phase = "open";
    this.#sender.envelope = envelope;
    this.#openKey = openKey;
    this.#handshakeWanted = false;
    if (this.#client) this.ping();
    this.#wake();
  }

  /** Sends INIT or READY in the next turn. */
  sendHandshake(): void {
    this.#handshakeWanted = true;
    this.#wake();
  }

  // Receiving.

  /**
   * Handles an INIT, READY or DATA of this connection, opened with `key`, by default the session's. False if it is forged
   * or a replay.
   */
  receive(packet: Bytes, from: Address, nowMs: number, key: PacketKey | undefined = this.#openKey): boolean {
    const head = headBytes(packet);
    if (head === 0 || this.#phase === "closed" || key === undefined) return false;
    this.#nowMs = nowMs;
    const number = readNumber(packet, head);
    if (!this.#replay.check(number)) {
      this.stats.replays++;
      return false;
    }
    const plain = key.open(packet, head, this.#io.plain);
    if (plain === undefined) {
      if (++this.stats.forgeries >= FORGERIES_MAX) this.close(brokenFrame("too many were forged"));
      return false;
    }
    const newest = number > this.#replay.highest;
    this.#replay.mark(number);
    this.stats.packetsReceived++;
    this.stats.bytesReceived += packet.length;
    this.#wake();
    if (this.#phase === "closing") {
      // The peer hasn't seen our CLOSE: it is repeated after 1, 2, 4, 8… packets.
      this.#heardClosing++;
      if ((this.#heardClosing & (this.#heardClosing - 1)) === 0) this.#closeOwed = true;
      return true;
    }
    this.#receivedMs = nowMs;
    this.#from = from;
    if (this.#phase === "open") this.path.received(from, number, newest, packet.length, nowMs);
    try {
      const eliciting = readFrames(plain, this.#sink, this.#ranges);
      this.#acks.received(number, eliciting, nowMs);
    } catch (error) {
      this.close(internalError("session", error));
    }
    return true;
  }

  #makeSink(): FrameSink {
    const streams = this.#streams;
    return {
      ping: () => {},
      ack: (ranges, delayUs) => this.#sender.acknowledge(ranges, delayUs, this.#nowMs),
      stream: (id, offset, data, fin) => {
        this.#mayUse(id);
        streams.data(id, offset, data, fin);
      },
      reset: (id, code, finalOffset) => {
        this.#mayUse(id);
        streams.reset(id, code, finalOffset);
      },
      maxData: (limit) => streams.maxData(limit),
      maxStreamData: (id, limit) => {
        this.#mayUse(id);
        streams.maxStreamData(id, limit);
      },
      maxStreams: (limit) => streams.maxStreams(limit),
      pathChallenge: (data) => this.path.challenged(this.#from, data),
      pathResponse: (data) => this.#pathResponse(data),
      close: (code, reason) => this.#peerClosed(code, reason),
      params: (maxData, maxStreamData, maxStreams, maxDatagramBytes) => {
        if (maxDatagramBytes < DATAGRAM_MIN_BYTES) throw brokenFrame("it accepts no packets of 1088 bytes");
        streams.params(maxData, maxStreamData, maxStreams);
        this.#sender.capDatagram(maxDatagramBytes);
      },
      connectionId: (id) => {
        if (!this.#client || this.#phase !== "handshake") throw brokenFrame("it announces an id after READY");
        this.announcedId = id.slice();
      },
    };
  }

  #mayUse(id: number): void {
    // Only the server can check this: its welcome may arrive after its first stream.
    if (id !== 0 && !this.#client && !this.#admitted) throw brokenFrame("it uses a stream before admission");
  }

  #pathResponse(data: Bytes): void {
    const before = this.path.current.host;
    if (!this.path.answered(this.#from, data)) return;
    this.#sender.pathMoved(this.path.current.host === before, this.#nowMs);
    this.ping();
  }

  #peerClosed(code: number, reason: string): void {
    const why = reason === "" ? codeOfWire(code) : reason;
    this.#closeError = new SallyportError(codeOfWire(code), `Session ended by the peer: ${why}`, {
      side: "peer",
      retryable: true,
    });
    this.#phase = "closed";
    this.#closeOwed = false;
  }

  #opened(stream: CurveStream): void {
    this.stats.streamsOpened++;
    if (this.#introduced) this.handler?.stream(stream);
    else this.#early.push(stream);
  }

  // Time.

  /** When {@link tick} is due; Infinity for never. */
  get deadlineMs(): number {
    if (this.#phase === "closed") return this.#told ? Infinity : -Infinity;
    if (this.#phase === "closing") return this.#closeUntilMs;
    const { recovery, sentMs, pacedUntilMs } = this.#sender;
    let atMs = this.#receivedMs + this.options.idleTimeoutMs;
    if (!this.#admitted) atMs = Math.min(atMs, this.#startedMs + this.options.handshakeTimeoutMs);
    if (this.#phase === "handshake") return this.#client ? atMs : Math.min(atMs, recovery.deadlineMs);
    if (this.#client) atMs = Math.min(atMs, sentMs + this.options.keepAliveMs);
    return Math.min(
      atMs,
      recovery.deadlineMs,
      this.#acks.dueMs,
      this.path.deadlineMs,
      this.#streams.deadlineMs,
      pacedUntilMs,
    );
  }

  /** Handles deadlines that have passed. Packets are sent in the turn that this requests. */
  tick(nowMs: number): void {
    this.#nowMs = nowMs;
    const { options } = this;
    if (this.#phase === "closing" && nowMs >= this.#closeUntilMs) this.#phase = "closed";
    if (this.#phase === "handshake" || this.#phase === "open") {
      const silentMs = nowMs - this.#receivedMs;
      if (!this.#admitted && nowMs >= this.#startedMs + options.handshakeTimeoutMs) {
        this.#vanish("deadline_exceeded", `no admission within ${options.handshakeTimeoutMs / 1000} s`);
      } else if (nowMs >= this.#receivedMs + options.idleTimeoutMs) {
        this.#vanish("connection_lost", `the peer is silent for ${Math.round(silentMs / 1000)} s`);
      } else this.#tickOpen(nowMs);
    }
    this.#wake();
  }

  #tickOpen(nowMs: number): void {
    const { recovery, sentMs } = this.#sender;
    if (this.#phase === "open" || !this.#client) {
      if (recovery.timeout(nowMs)) {
        this.#sender.probe(nowMs);
        if (this.#phase === "handshake") this.#handshakeWanted = true;
      }
    }
    if (this.#client && this.#phase === "open" && nowMs >= sentMs + this.options.keepAliveMs) {
      this.#sender.pings = Math.max(1, this.#sender.pings);
    }
    this.#streams.tick(nowMs);
  }

  /** Delivers pending events to handlers, and sends what the windows allow. */
  turn(nowMs: number): void {
    this.#nowMs = nowMs;
    if (this.#controlMessage.ready && !this.#introduced && this.#phase === "open") this.#introduce();
    this.#streams.turn(nowMs, LINGER_MS);
    if (this.#phase === "handshake" && this.#handshakeWanted) {
      this.#handshakeWanted = false;
      this.#sender.sendHandshake(this.#client, nowMs);
    } else if (this.#phase === "open") {
      if (this.#sender.flush(nowMs)) this.#wake();
    }
    if (this.#closeError !== undefined) this.#turnClosed(nowMs);
  }

  #introduce(): void {
    this.#introduced = true;
    if (this.#client) this.#admitted = true;
    this.handler?.introduced(this.#controlMessage.take());
    const early = this.#early;
    this.#early = [];
    for (const stream of early) this.handler?.stream(stream);
  }

  #turnClosed(nowMs: number): void {
    const error = this.#closeError!;
    if (this.#closeOwed && this.#phase === "closing") {
      this.#closeOwed = false;
      this.#sender.sendClose(wireCode(errorCode(error)), error.message, nowMs);
    }
    if (this.#told) return;
    this.#told = true;
    this.#closeUntilMs = nowMs + 3 * this.#sender.rtt.ptoMs(0);
    this.#streams.end(error);
    this.handler?.closed(error);
  }

  #vanish(code: "connection_lost" | "deadline_exceeded", why: string): void {
    this.#closeError = new SallyportError(code, `Session lost: ${why}`, {
      side: "network",
      retryable: true,
    });
    this.#phase = "closed";
  }

  #wake(): void {
    this.#io.wake(this);
  }
}
