/**
 * A session over a QUIC connection (docs/protocols/quic.md): each visitor has a QUIC stream of its own, so that a lost
 * packet delays nobody else, and frames of the credit dialect on it say what QUIC's own signs can't on every runtime.
 *
 * @module
 */
import type { BlockPool } from "../../bytes/block_pool.ts";
import type { Bytes } from "../../bytes/bytes.ts";
import type { Role } from "../../crypto/header_cipher.ts";
import { type ErrorCode, errorCode, internalError, SallyportError } from "../../errors.ts";
import { CreditStream } from "../../protocol/mux/credit/stream.ts";
import { invalidFrame } from "../../protocol/mux/credit/table.ts";
import { ReceiveWindows } from "../../protocol/mux/credit/windows.ts";
import { Endings } from "../../protocol/mux/endings.ts";
import type { Caller } from "../../protocol/mux/host.ts";
import type { StreamOwner } from "../../protocol/mux/stream_core.ts";
import type { Address, ByteStream, Clock } from "../../runtime/port.ts";
import type { QuicConn, QuicConnHandler } from "../../runtime/quic_port.ts";
import {
  CreditFrame,
  decodeCredit,
  decodeOpen,
  decodeReason,
  encodeOpen,
  encodeReason,
} from "../../wire/credit/credit_frame.ts";
import { Alarm } from "../alarm.ts";
import { lostSession } from "../lost.ts";
import type { Session, SessionHandler, SessionStream } from "../port.ts";
import { QuicControl } from "./control.ts";
import { PipeDeadlines, type PipeOwner, QuicPipe } from "./framed_stream.ts";
import { QUIC, QUIC_CIPHER, type QuicSessionOptions } from "./options.ts";
import { QuicSender } from "./sender.ts";
import { QuicSupply } from "./supply.ts";
import { CREDIT_STREAM_FIRST_BYTES } from "../../protocol/mux/credit/windows.ts";
import {
  DEFAULT_QUEUE_LIMITS,
  SESSION_RECEIVE_BUDGET_BYTES,
  SESSION_WRITE_STALL_MS,
  STREAMS_PER_SESSION_MAX,
} from "../../protocol/mux/queue_limits.ts";

/** A session in either role; hears of its connection once it is started. */
export class QuicSession implements Session, StreamOwner<CreditStream>, PipeOwner, QuicConnHandler {
  readonly transport = QUIC;
  readonly protocolVersion = 1;
  readonly cipher = QUIC_CIPHER;
  readonly halfClose = true;
  readonly role: Role;
  readonly blocks: BlockPool;
  bytesReceived = 0;
  readonly #conn: QuicConn;
  readonly #clock: Clock;
  readonly #control: QuicControl;
  readonly #controlStream: ByteStream;
  readonly #pipes = new Map<CreditStream, QuicPipe>();
  readonly #deadlines: PipeDeadlines;
  readonly #supply: QuicSupply;
  readonly #sender: QuicSender;
  readonly #windows: ReceiveWindows;
  readonly #alarm: Alarm;
  readonly #endings = new Endings<CreditStream>(this);
  readonly #turn = () => this.#doTurn();
  /** Whose CREDITs wait for the turn; undefined is the session. */
  #creditsDue: (CreditStream | undefined)[] = [];
  #scheduled: CreditStream[] = [];
  #woken = false;
  #handler: SessionHandler | undefined;
  #ended: SallyportError | undefined;

  constructor(options: QuicSessionOptions) {
    const { role, conn, clock, random, control } = options;
    this.role = role;
    this.blocks = options.blocks;
    this.#conn = conn;
    this.#clock = clock;
    this.#controlStream = control;
    this.#alarm = new Alarm(clock, () => this.#tick());
    this.#control = new QuicControl(new QuicPipe(this), this.#alarm, random, {
      role,
      credited: (bytes) => this.#sender.credited(bytes),
      peerLeaves: (code) => this.#handler?.goingAway?.(code),
      failed: (error) => this.close(error),
    });
    const late = (pipe: QuicPipe) => {
      this.#supply.ended(pipe);
      if (!pipe.over) this.#handler?.streamRefused("deadline_exceeded");
    };
    const deadlines = this.#deadlines = new PipeDeadlines(this.#alarm, late);
    const wanted = () => this.#over === undefined;
    this.#supply = new QuicSupply({ conn, owner: this, deadlines, offerFrom: options.offerFrom, wanted });
    this.#sender = new QuicSender(options.queueLimits ?? DEFAULT_QUEUE_LIMITS, {
      pipeOf: (stream) => this.#pipes.get(stream),
      finSent: (stream) => this.#finSent(stream),
      wake: () => this.#wake(),
    });
    this.#windows = new ReceiveWindows({
      host: this.#alarm,
      budgetBytes: options.receiveBudgetBytes ?? SESSION_RECEIVE_BUDGET_BYTES,
      streams: { [Symbol.iterator]: () => this.#pipes.keys() },
      grant: (stream) => this.#grant(stream),
      drop: (stream, code, why) => this.#refuse(stream, code, why),
    });
  }

  /** Begins: `handler` hears of the session, `received` has already been read from the control stream. */
  start(handler: SessionHandler, received: Bytes): void {
    this.#handler = handler;
    this.#control.pipe.carriedBy(this.#controlStream);
    this.#conn.attach(this);
    this.#alarm.arm(this.#control.heartbeat.start());
    this.#windows.start();
    if (received.length > 0) this.#control.pipe.data(received);
  }

  get remote(): Address {
    return this.#conn.remote;
  }
  get streams(): number {
    return this.#pipes.size;
  }
  get bytesSent(): number {
    return this.#sender.bytesSent;
  }
  get rttMs(): number | undefined {
    return this.#control.heartbeat.rttMs;
  }

  open(caller: Caller): SessionStream {
    if (this.#over !== undefined) throw this.#over;
    if (this.streams >= STREAMS_PER_SESSION_MAX) {
      const why = `Cannot open stream: the session has ${this.streams} already`;
      throw new SallyportError("limit_exceeded", why, { side: "local" });
    }
    const pipe = new QuicPipe(this);
    const stream = this.#add(pipe, caller, true);
    pipe.send(encodeOpen(0, {
      address: caller.address,
      port: caller.port ?? 0,
      serverName: caller.serverName,
      creditBytes: stream.grantedBytes,
    }));
    this.#supply.carry(pipe);
    return stream;
  }

  goAway(reason: SallyportError): void {
    if (this.#ended === undefined) this.#control.goAway(reason);
  }

  close(reason: SallyportError): void {
    if (this.#ended !== undefined) return;
    this.#ended = reason;
    this.#alarm.stop();
    for (const [stream, pipe] of this.#pipes) {
      // What is over both ways still delivers what came.
      if (stream.remoteClosed && stream.finSent) continue;
      pipe.abort();
      stream.dead = true;
      stream.error ??= reason;
      this.schedule(stream);
    }
    this.#conn.close(reason);
    this.#handler?.ended(reason);
  }

  // From the connection (QuicConnHandler); internal. `ended` is also the pipes', see PipeOwner.

  stream(inner: ByteStream): void {
    if (this.#ended !== undefined) return inner.abort();
    this.#supply.came(inner);
  }

  ended(error: SallyportError): void;
  ended(pipe: QuicPipe, error: unknown): void;
  ended(what: SallyportError | QuicPipe, error?: unknown): void {
    if (what instanceof SallyportError) return this.close(lostSession(what));
    if (what === this.#control.pipe) return this.close(lostSession(error ?? "the peer closed it"));
    this.#supply.ended(what);
    const { stream } = what;
    const expected = what.over;
    what.finish();
    if (expected || stream === undefined || stream.dead) return;
    if (errorCode(error) === "limit_exceeded") this.#handler?.streamRefused("limit_exceeded");
    this.#kill(
      stream,
      new SallyportError("connection_lost", `The ${this.#peer} has broken the stream off`, {
        side: "network",
      }),
    );
  }

  // What the streams ask for (StreamOwner); internal.

  send(stream: CreditStream, chunk: Bytes): boolean {
    const answer = this.#sender.send(stream, chunk);
    if (answer !== "overflow") return answer;
    this.#refuse(stream, "stream_overflow", "Cannot send: the peer takes less than the stream brings");
    return true;
  }

  finish(stream: CreditStream): void {
    this.#sender.finish(stream);
  }

  release(stream: CreditStream): void {
    this.#windows.forget(stream);
    if (!stream.finPending) this.finish(stream);
    if (stream.remoteClosed && stream.finSent) this.schedule(stream);
    else this.#alarm.arm(this.#endings.watch(stream, this.#alarm.nowMs()));
  }

  reset(stream: CreditStream, error: Error | undefined): void {
    if (stream.dead) return;
    const code = error === undefined ? "aborted" : errorCode(error);
    this.#pipes.get(stream)?.send(encodeReason(CreditFrame.RESET, 0, code));
    this.#kill(stream, error);
  }

  consumed(stream: CreditStream, byteLength: number): void {
    this.#windows.release(stream, byteLength);
  }

  schedule(stream: CreditStream): void {
    if (stream.scheduled) return;
    stream.scheduled = true;
    this.#scheduled.push(stream);
    this.#wake();
  }

  closeBehindData(): void {}

  // From the pipes (PipeOwner); internal.

  frame(pipe: QuicPipe, type: number, body: Bytes): void {
    this.#control.heartbeat.active = true;
    if (pipe === this.#control.pipe) return this.#control.frame(type, body);
    if (pipe.over) return;
    const { stream } = pipe;
    if (stream === undefined) {
      if (type === CreditFrame.OFFER) return this.#supply.offered(pipe);
      if (type !== CreditFrame.OPEN) throw invalidFrame("a stream doesn't begin with OPEN");
      return this.#accept(pipe, body);
    }
    if (type === CreditFrame.CREDIT) {
      stream.sendCredit += decodeCredit(body);
      this.#sender.ready(stream);
      this.#wake();
    } else if (type === CreditFrame.FIN) this.#remoteEnd(stream);
    else if (type === CreditFrame.RESET) this.#remoteReset(stream, decodeReason(body));
    else throw invalidFrame(`a stream has a frame of type ${type}`);
  }

  dataFrame(pipe: QuicPipe, size: number): CreditStream | undefined {
    this.#control.heartbeat.active = true;
    const { stream } = pipe;
    if (stream === undefined && !pipe.over) {
      throw invalidFrame("DATA comes before OPEN, or on the control stream");
    }
    if (stream?.remoteClosed) throw invalidFrame("DATA follows a FIN");
    const wanted = stream === undefined || stream.dead ? undefined : stream;
    this.#windows.received(wanted, size);
    return wanted;
  }

  data(stream: CreditStream, piece: Bytes): void {
    if (stream.dead) return this.#windows.taken(stream, piece.length);
    this.bytesReceived += piece.length;
    if (stream.deliver(piece)) this.#windows.taken(stream, piece.length);
    else this.#windows.hold(stream, piece);
  }

  drained(pipe: QuicPipe): void {
    this.#control.heartbeat.active = true;
    if (pipe.stream === undefined) return;
    this.#sender.ready(pipe.stream);
    this.#wake();
  }

  unreadable(error: unknown): void {
    this.close(internalError("session", error));
  }

  /** Why there are to be no new streams. */
  get #over(): SallyportError | undefined {
    return this.#ended ?? this.#control.leaving;
  }

  get #peer(): string {
    return this.role === "edge" ? "agent" : "edge";
  }

  #add(pipe: QuicPipe, caller: Caller, own: boolean): CreditStream {
    const stream = new CreditStream(this, 0, caller, own);
    stream.grantedBytes = CREDIT_STREAM_FIRST_BYTES;
    stream.sendCredit = CREDIT_STREAM_FIRST_BYTES;
    pipe.stream = stream;
    this.#pipes.set(stream, pipe);
    return stream;
  }

  #accept(pipe: QuicPipe, body: Bytes): void {
    const { address, port, serverName, creditBytes } = decodeOpen(body);
    this.#supply.opened(pipe);
    const leaving = this.#control.leaving === undefined ? undefined : "shutdown";
    const code = this.streams >= STREAMS_PER_SESSION_MAX ? "limit_exceeded" : leaving;
    if (code !== undefined) {
      this.#handler?.streamRefused(code);
      pipe.send(encodeReason(CreditFrame.RESET, 0, code));
      return this.#finishPipe(pipe);
    }
    const caller = { address, port, ...serverName === undefined ? {} : { serverName } };
    const stream = this.#add(pipe, caller, false);
    stream.sendCredit = creditBytes;
    this.#handler?.stream(stream);
  }

  #remoteEnd(stream: CreditStream): void {
    if (stream.dead) return;
    if (stream.remoteClosed) throw invalidFrame("a second FIN");
    stream.remoteClosed = true;
    this.#finSent(stream);
    this.schedule(stream);
  }

  #remoteReset(stream: CreditStream, code: ErrorCode): void {
    if (stream.dead) return;
    this.#kill(
      stream,
      new SallyportError(code, `The ${this.#peer} has ended the stream: ${code}`, { side: "peer" }),
    );
  }

  #finSent(stream: CreditStream): void {
    if (!stream.remoteClosed || !stream.finSent) return;
    this.#finishPipe(this.#pipes.get(stream));
    this.schedule(stream);
  }

  /** Nothing more is said on it; the peer has its time to do the same. */
  #finishPipe(pipe: QuicPipe | undefined): void {
    if (pipe === undefined || pipe.over) return;
    pipe.finish();
    if (!this.#supply.withdraw(pipe)) this.#deadlines.watch(pipe, SESSION_WRITE_STALL_MS);
  }

  #grant(stream: CreditStream | undefined): void {
    this.#creditsDue.push(stream);
    this.#wake();
  }

  #sendCredits(): void {
    for (const stream of this.#creditsDue.splice(0)) {
      const more = this.#windows.takeGrant(stream);
      if (more > 0) (stream === undefined ? this.#control.pipe : this.#pipes.get(stream))?.sendCredit(more);
    }
  }

  #doTurn(): void {
    this.#woken = false;
    for (const stream of this.#scheduled.splice(0)) this.#settle(stream);
    if (this.#ended !== undefined) return;
    this.#sendCredits();
    this.#sender.flush();
  }

  #settle(stream: CreditStream): void {
    stream.scheduled = false;
    stream.flushIncoming();
    stream.flushEnd();
    if (!stream.dead && stream.endDelivered && stream.finSent) {
      stream.dead = true;
      this.#sender.forget(stream);
      this.#endings.forget(stream);
    }
    if (!stream.dead) return;
    stream.finish();
    if (stream.closed && this.#pipes.delete(stream)) this.#handler?.streamClosed();
  }

  /** Over at once, both ways. */
  #kill(stream: CreditStream, error: Error | undefined): void {
    stream.error = error;
    stream.dead = true;
    this.#sender.forget(stream);
    this.#windows.forget(stream);
    this.#endings.forget(stream);
    this.#finishPipe(this.#pipes.get(stream));
    this.schedule(stream);
  }

  #refuse(stream: CreditStream, code: ErrorCode, why: string): void {
    this.#handler?.streamRefused(code);
    this.reset(stream, new SallyportError(code, why, { side: "peer" }));
  }

  #tick(): void {
    const now = this.#alarm.nowMs();
    const nextMs = Math.min(this.#windows.tick(now), this.#endings.tick(now), this.#deadlines.tick(now));
    try {
      this.#alarm.arm(Math.min(nextMs, this.#control.heartbeat.tick(now)));
    } catch (error) {
      this.close(internalError("session", error));
    }
  }

  #wake(): void {
    if (!this.#woken) this.#clock.soon(this.#turn);
    this.#woken = true;
  }
}
