/**
 * A credit session whose frames share one byte stream. The transport below provides integrity and confidentiality.
 *
 * @module
 */
import type { Bytes } from "../../../bytes/bytes.ts";
import { CreditFrame } from "../../../wire/credit/credit_frame.ts";
import type { Multiplexer, MuxHost } from "../host.ts";
import type { CreditSink } from "./channel.ts";
import { CreditEngine, type CreditEngineOptions } from "./engine.ts";
import { CreditReceiver } from "./receiver.ts";
import { type CreditScratch, CreditSender } from "./sender.ts";
import type { CreditStream } from "./stream.ts";
import { CreditTable } from "./table.ts";

/** Options of a {@link CreditSession}. */
export interface CreditOptions extends Omit<CreditEngineOptions<number>, "blocks" | "wasteTurns"> {
  readonly host: MuxHost<NumberedStream>;
  readonly scratch: CreditScratch;
}

/** A stream identified by a number on the wire. */
export type NumberedStream = CreditStream<number>;

/** One session. Feed it with `receive`, `writable`, `turn` and `tick`. */
export class CreditSession extends CreditEngine<number> implements Multiplexer<NumberedStream> {
  readonly #muxHost: MuxHost<NumberedStream>;
  readonly #sender: CreditSender;
  readonly #receiver: CreditReceiver<NumberedStream>;

  constructor(options: CreditOptions) {
    const table = new CreditTable(options.role);
    let sender!: CreditSender;
    super(
      { ...options, blocks: options.scratch.blocks, wasteTurns: options.scratch.wasteTurns },
      (sink) => sender = new CreditSender(options, table, sink, (bytes) => this.#write(bytes)),
    );
    this.#muxHost = options.host;
    this.#sender = sender;
    this.#receiver = new CreditReceiver(new NumberedFrames(table, this));
  }

  /** Accepts bytes from the peer in chunks of any size. An invalid frame ends the session. */
  receive(chunk: Bytes): void {
    this.takeIn(chunk);
  }

  override read(chunk: Bytes): number {
    return this.#receiver.receive(chunk);
  }

  override hold(hold: boolean): void {
    this.heartbeat.hold(hold);
    this.#muxHost.holdReading(hold);
  }

  /** The host accepts bytes again after `write` returned false. */
  writable(): void {
    this.#sender.blocked = false;
    this.unblocked();
  }

  #write(bytes: Bytes): boolean {
    return this.wrote(this.#muxHost.write(bytes));
  }
}

/** Maps incoming frames to their streams. */
class NumberedFrames {
  readonly #table: CreditTable;
  readonly #sink: CreditSink<number>;

  constructor(table: CreditTable, sink: CreditSink<number>) {
    this.#table = table;
    this.#sink = sink;
  }

  get tired(): boolean {
    return this.#sink.tired;
  }

  frame(type: number, number: number, body: Bytes): void {
    if (type === CreditFrame.OPEN) {
      this.#table.takePeers(number);
      this.#sink.accept(number, body);
    } else if (type === CreditFrame.FIN || type === CreditFrame.RESET) {
      this.#sink.streamFrame(this.#table.find(number), type, body);
    } else if (type === CreditFrame.CREDIT && number !== 0) {
      this.#sink.streamFrame(this.#table.find(number), type, body);
    } else {
      this.#sink.sessionFrame(type, body);
    }
  }

  dataFrame(number: number, size: number): NumberedStream | undefined {
    return this.#sink.dataFrame(this.#table.find(number), size);
  }

  data(stream: NumberedStream, piece: Bytes): void {
    this.#sink.data(stream, piece);
  }
}
