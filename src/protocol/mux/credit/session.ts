/**
 * A session in the credit dialect, in either role: streams whose directions end one by one, credit for each stream and
 * for all, resets with a reason, go-away (docs/protocols/sealed.md, Frames). It does no IO: see {@link MuxHost}; the
 * transport below keeps its bytes whole and secret.
 *
 * @module
 */
import type { BlockPool } from "../../../bytes/block_pool.ts";
import type { Bytes } from "../../../bytes/bytes.ts";
import type { Role } from "../../../crypto/header_cipher.ts";
import { type ErrorCode, errorCode, SallyportError } from "../../../errors.ts";
import {
  CreditFrame,
  decodeCredit,
  decodeOpen,
  decodeReason,
  encodeCreditFrame,
  encodeOpen,
  encodeReason,
  PING_BYTES,
} from "../../../wire/credit/credit_frame.ts";
import type { Filler } from "../../../wire/snitun/snitun_frame.ts";
import type { Caller, Multiplexer, MuxHost } from "../host.ts";
import { SendBudget } from "../send_budget.ts";
import { DIRECT_MIN_BYTES, SessionCore } from "../session_core.ts";
import type { StreamOwner } from "../stream_core.ts";
import { CreditReceiver } from "./receiver.ts";
import { type CreditScratch, CreditSender } from "./sender.ts";
import type { CreditStream } from "./stream.ts";
import { CreditTable, invalidFrame } from "./table.ts";
import { ReceiveWindows } from "./windows.ts";
import { CREDIT_SESSION_FIRST_BYTES } from "./windows.ts";
import { DEFAULT_QUEUE_LIMITS, type QueueLimits, SESSION_RECEIVE_BUDGET_BYTES } from "../queue_limits.ts";

/** What a {@link CreditSession} is made of. */
export interface CreditOptions {
  readonly role: Role;
  readonly host: MuxHost<CreditStream>;
  readonly scratch: CreditScratch;
  readonly random: Filler;
  readonly queueLimits?: QueueLimits;
  /** Received bytes that the session may hold; {@link SESSION_RECEIVE_BUDGET_BYTES} when absent. */
  readonly receiveBudgetBytes?: number;
}

/** One session. Feed it with `receive`, `writable`, `turn` and `tick`. */
export class CreditSession extends SessionCore<CreditStream>
  implements Multiplexer<CreditStream>, StreamOwner<CreditStream> {
  readonly protocolVersion = 1;
  readonly blocks: BlockPool;
  protected readonly sender: CreditSender;
  protected readonly sending: SendBudget<CreditStream>;
  readonly #receiver = new CreditReceiver(this);
  readonly #windows: ReceiveWindows;
  readonly #streams: CreditTable;
  #leaving: ErrorCode | undefined;

  constructor(options: CreditOptions) {
    const { host, random, role } = options;
    super(role, host, random);
    this.blocks = options.scratch.blocks;
    this.#streams = new CreditTable(this, role);
    this.sender = new CreditSender(options.scratch, random, CREDIT_SESSION_FIRST_BYTES, this);
    this.sending = new SendBudget(options.queueLimits ?? DEFAULT_QUEUE_LIMITS, this.sender);
    this.#windows = new ReceiveWindows({
      host,
      budgetBytes: options.receiveBudgetBytes ?? SESSION_RECEIVE_BUDGET_BYTES,
      streams: this.#streams,
      grant: (stream) => this.#control(stream ?? "session"),
      drop: (stream, code, why) => this.#refuse(stream, code, why),
    });
  }

  get streams(): number {
    return this.#streams.size;
  }

  override start(): void {
    super.start();
    this.#windows.start();
  }

  /**
   * Opens a stream towards the other side. Throws `limit_exceeded` where the session has as many
   * as it may, `shutdown` where either side goes away, and why the session ended where it has.
   */
  open(caller: Caller): CreditStream {
    if (this.ended !== undefined) throw this.ended;
    if (this.#leaving !== undefined) {
      throw new SallyportError("shutdown", "Cannot open stream: the session takes no new ones any more", {
        side: "local",
        retryable: true,
      });
    }
    if (this.#streams.full) {
      throw new SallyportError(
        "limit_exceeded",
        `Cannot open stream: the session has ${this.streams} already`,
        { side: "local" },
      );
    }
    const stream = this.#streams.add(this.#streams.takeOwn(), caller, true);
    this.#control(encodeOpen(stream.id, {
      address: caller.address,
      port: caller.port ?? 0,
      serverName: caller.serverName,
      creditBytes: stream.grantedBytes,
    }));
    this.sender.flight.beSmall();
    if (this.#streams.usedUp) this.goAway("limit_exceeded");
    return stream;
  }

  protected override read(chunk: Bytes): void {
    this.#receiver.receive(chunk);
  }

  protected override tickFlow(nowMs: number): number {
    return this.#windows.tick(nowMs);
  }

  /** Says that no new streams are wanted; those that are open go on. */
  goAway(code: ErrorCode): void {
    if (this.#leaving !== undefined || this.ended !== undefined) return;
    this.#leaving = code;
    this.#control(encodeReason(CreditFrame.GOAWAY, 0, code));
  }

  /** Ends the session and every stream in it; streams that are over both ways still deliver what came. */
  end(error: SallyportError): void {
    if (this.ended !== undefined) return;
    this.ended = error;
    for (const stream of this.#streams) {
      if (stream.remoteClosed && stream.finSent) continue;
      stream.dead = true;
      stream.error ??= error;
      this.schedule(stream);
    }
    this.host.ended(error);
  }

  // What the streams ask for (StreamOwner), the receiver finds and the sender has done; internal.

  send(stream: CreditStream, chunk: Bytes): boolean {
    if (chunk.length === 0) return true;
    const sent = chunk.length >= DIRECT_MIN_BYTES ? this.sender.direct(stream, chunk) : 0;
    this.bytesSent += sent;
    if (sent < chunk.length) {
      if (!this.sending.queue(stream, chunk.subarray(sent))) {
        this.#refuse(stream, "stream_overflow", "Cannot send: the peer takes less than the stream brings");
        return true;
      }
      this.wake();
    }
    const goOn = this.sending.mayGoOn(stream);
    if (!goOn) this.wake();
    return goOn;
  }

  finish(stream: CreditStream): void {
    stream.finPending = true;
    if (stream.outgoing.byteLength > 0 || this.ended !== undefined) return;
    this.#control(encodeCreditFrame(CreditFrame.FIN, stream.id, NOTHING));
    this.finSent(stream);
  }

  release(stream: CreditStream): void {
    this.#windows.forget(stream);
    if (!stream.finPending) this.finish(stream);
    if (stream.remoteClosed && stream.finSent) this.schedule(stream);
    else this.host.arm(this.endings.watch(stream, this.host.nowMs()));
  }

  reset(stream: CreditStream, error: Error | undefined): void {
    if (stream.dead) return;
    const code = error === undefined ? "aborted" : errorCode(error);
    const over = stream.remoteClosed && stream.finSent;
    if (!over && this.ended === undefined) this.#control(encodeReason(CreditFrame.RESET, stream.id, code));
    this.#kill(stream, error);
  }

  consumed(stream: CreditStream, byteLength: number): void {
    this.#windows.release(stream, byteLength);
  }

  closeBehindData(): void {}

  sendPing(which: "ping" | "pong", id: Bytes): void {
    this.#control(encodeCreditFrame(which === "ping" ? CreditFrame.PING : CreditFrame.PONG, 0, id));
  }

  frame(type: number, id: number, body: Bytes): void {
    switch (type) {
      case CreditFrame.OPEN:
        return this.#accept(id, body);
      case CreditFrame.CREDIT:
        return this.#credit(id, decodeCredit(body));
      case CreditFrame.FIN:
        return this.#remoteEnd(this.#streams.find(id));
      case CreditFrame.RESET:
        return this.#remoteReset(this.#streams.find(id), decodeReason(body));
      case CreditFrame.GOAWAY:
        return this.#remoteGoAway(decodeReason(body));
      case CreditFrame.PING:
      case CreditFrame.PONG: {
        const question = body.slice(0, PING_BYTES);
        if (this.heartbeat.received(type === CreditFrame.PING ? "ping" : "pong", question)) return;
        if (this.sender.flight.pong(question, this.host.nowMs())) this.wake();
      }
    }
  }

  dataFrame(id: number, size: number): CreditStream | undefined {
    const stream = this.#streams.find(id);
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

  nowMs(): number {
    return this.host.nowMs();
  }

  finSent(stream: CreditStream): void {
    stream.finSent = true;
    if (stream.remoteClosed) this.schedule(stream);
  }

  takeGrant(stream: CreditStream | undefined): number {
    return this.#windows.takeGrant(stream);
  }

  #accept(id: number, body: Bytes): void {
    if (this.ended !== undefined) return;
    const { address, port, serverName, creditBytes } = decodeOpen(body);
    this.#streams.takePeers(id);
    const code = this.#streams.full ? "limit_exceeded" : this.#leaving !== undefined ? "shutdown" : undefined;
    if (code !== undefined) {
      this.host.refused(code);
      this.#control(encodeReason(CreditFrame.RESET, id, code));
      return;
    }
    const stream = this.#streams.add(id, {
      address,
      port,
      ...(serverName === undefined ? {} : { serverName }),
    }, false);
    stream.sendCredit = creditBytes;
    this.sender.flight.beSmall();
    this.host.opened(stream);
  }

  #credit(id: number, bytes: number): void {
    const stream = id === 0 ? undefined : this.#streams.find(id);
    if (id === 0) this.sender.credit += bytes;
    if (stream !== undefined) stream.sendCredit += bytes;
    if (stream !== undefined) this.sender.ready(stream);
    this.wake();
  }

  #remoteGoAway(code: ErrorCode): void {
    if (this.#leaving === undefined) this.host.goingAway?.(code);
    this.#leaving ??= code;
  }

  #remoteEnd(stream: CreditStream | undefined): void {
    if (stream === undefined || stream.dead) return;
    if (stream.remoteClosed) throw invalidFrame("a second FIN");
    stream.remoteClosed = true;
    this.schedule(stream);
  }

  #remoteReset(stream: CreditStream | undefined, code: ErrorCode): void {
    if (stream === undefined || stream.dead) return;
    const why = `The ${this.role === "edge" ? "agent" : "edge"} has ended the stream: ${code}`;
    this.#kill(stream, new SallyportError(code, why, { side: "peer" }));
  }

  /** Over at once, both ways. */
  #kill(stream: CreditStream, error: Error | undefined): void {
    stream.error = error;
    stream.dead = true;
    this.sending.forget(stream);
    this.#windows.forget(stream);
    this.endings.forget(stream);
    this.schedule(stream);
  }

  protected override settle(stream: CreditStream): void {
    stream.flushIncoming();
    stream.flushEnd();
    if (!stream.dead && stream.endDelivered && stream.finSent) {
      stream.dead = true;
      this.sending.forget(stream);
      this.endings.forget(stream);
    }
    if (!stream.dead) return;
    stream.finish();
    if (!stream.closed || !this.#streams.remove(stream)) return;
    this.host.closed(stream);
  }

  #refuse(stream: CreditStream, code: ErrorCode, why: string): void {
    this.host.refused(code);
    this.reset(stream, new SallyportError(code, why, { side: "peer" }));
  }

  #control(frame: Bytes | CreditStream | "session"): void {
    this.sender.control(frame);
    this.checkControl();
  }
}

const NOTHING: Bytes = new Uint8Array(0);
