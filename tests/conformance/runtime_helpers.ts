/**
 * What the runtime suite watches streams with.
 *
 * @module
 */

import assert from "node:assert/strict";
import { createHash, type Hash } from "node:crypto";
import { type ErrorCode, SallyportError } from "../../src/errors.ts";
import type { Bytes, ByteStreamHandler, Conn, Listener, Runtime } from "../../src/runtime/port.ts";

/** The runtime under test. */
export interface Harness {
  readonly runtime: Runtime;
  /** An address of this host for listening and dialling. */
  readonly host: string;
  /** Runs a test's body; virtual time passes meanwhile where time is virtual. */
  run(body: () => Promise<void>): Promise<void>;
  /** Sends an HTTP request the way the runtime's clients do. */
  fetch(url: string): Promise<Response>;
  /** Waiting for minutes costs nothing. */
  readonly virtualTime: boolean;
  /** Connections are lost whose peer ends before it has sent anything. */
  readonly peersSpeak?: boolean;
}

/** UTF-8. */
export function bytesOf(text: string): Bytes {
  return new TextEncoder().encode(text) as Bytes;
}

/** Bytes that differ from position to position, so that lost, repeated and swapped ones show. */
export function pattern(length: number, seed = 1): Bytes {
  const bytes = new Uint8Array(length);
  let state = seed >>> 0 || 1;
  for (let i = 0; i < length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[i] = state;
  }
  return bytes;
}

export function hashOf(bytes: Bytes): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/**
 * A connection with a note of what happens on it. Its methods count how deep the caller is inside them, so that a
 * callback out of a method call is noticed; every callback checks the order that the port promises.
 */
export class Watched implements ByteStreamHandler {
  readonly conn: Conn;
  readonly chunks: Bytes[] = [];
  readonly wrong: string[] = [];
  byteLength = 0;
  ended = false;
  closes = 0;
  drains = 0;
  closeError: Error | undefined;
  /** Called with each chunk, after it has been noted. */
  onData: (chunk: Bytes) => void = () => {};
  onEnd: () => void = () => {};
  onClose: () => void = () => {};
  onDrain: () => void = () => {};
  #hash: Hash = createHash("sha256");
  #keep: boolean;
  #inCall = false;
  #paused = false;
  #waiting: { readonly met: () => boolean; readonly open: () => void }[] = [];

  constructor(conn: Conn, options: { keep?: boolean; attach?: boolean } = {}) {
    this.conn = conn;
    this.#keep = options.keep ?? true;
    if (options.attach ?? true) this.attach();
  }

  #call<T>(run: () => T): T {
    const outer = this.#inCall;
    this.#inCall = true;
    try {
      return run();
    } finally {
      this.#inCall = outer;
    }
  }

  attach(): void {
    this.#call(() => this.conn.attach(this));
  }
  write(chunk: Bytes): boolean {
    return this.#call(() => this.conn.write(chunk));
  }
  closeWrite(): void {
    this.#call(() => this.conn.closeWrite());
  }
  abort(error?: Error): void {
    this.#call(() => this.conn.abort(error));
  }
  release(): void {
    this.#call(() => this.conn.release());
  }
  pause(): void {
    this.#paused = true;
    this.#call(() => this.conn.pause());
  }
  resume(): void {
    this.#paused = false;
    this.#call(() => this.conn.resume());
  }

  #check(what: string): void {
    if (this.#inCall) this.wrong.push(`${what} from within a method call`);
    if (this.closes > 0) this.wrong.push(`${what} after close`);
  }

  data(chunk: Bytes): void {
    this.#check("data");
    if (this.#paused) this.wrong.push("data while paused");
    if (this.ended) this.wrong.push("data after end");
    if (chunk.length === 0) this.wrong.push("empty data");
    this.byteLength += chunk.length;
    if (this.#keep) this.chunks.push(new Uint8Array(chunk));
    this.#hash.update(chunk);
    this.onData(chunk);
    this.#wake();
  }
  end(): void {
    this.#check("end");
    if (this.#paused) this.wrong.push("end while paused");
    if (this.ended) this.wrong.push("a second end");
    this.ended = true;
    this.onEnd();
    this.#wake();
  }
  drain(): void {
    this.#check("drain");
    this.drains++;
    this.onDrain();
    this.#wake();
  }
  close(error?: Error): void {
    this.#check("close");
    this.closes++;
    this.closeError = error;
    this.#wake();
    this.onClose();
  }

  #wake(): void {
    this.#waiting = this.#waiting.filter((waiting) => {
      if (!waiting.met()) return true;
      waiting.open();
      return false;
    });
  }

  /** Resolves at the callback after which `met` holds. */
  until(met: () => boolean): Promise<void> {
    if (met()) return Promise.resolve();
    return new Promise((open) => this.#waiting.push({ met, open }));
  }
  received(byteLength: number): Promise<void> {
    return this.until(() => this.byteLength >= byteLength);
  }
  get sawEnd(): Promise<void> {
    return this.until(() => this.ended);
  }
  get sawClose(): Promise<void> {
    return this.until(() => this.closes > 0);
  }

  /** What has been received, as text. */
  get text(): string {
    return this.chunks.map((chunk) => new TextDecoder("latin1").decode(chunk)).join("");
  }
  /** SHA-256 of what has been received; ask once. */
  get hash(): string {
    return this.#hash.digest("hex");
  }

  /** Sends `bytes` and ends; fails unless the same bytes come back, and then the end. */
  async assertEchoed(bytes: Bytes): Promise<void> {
    this.write(bytes);
    this.closeWrite();
    await this.sawEnd;
    assert.deepEqual(Buffer.concat(this.chunks), Buffer.from(bytes));
    await this.sawClose;
    this.assertOver();
  }

  /** Fails if the stream did what the port rules out, or has not closed just once. */
  assertOver(error?: ErrorCode | Error): void {
    assert.deepEqual(this.wrong, []);
    assert.equal(this.closes, 1, "close comes exactly once");
    if (error === undefined) assert.equal(this.closeError, undefined);
    else if (error instanceof Error) assert.equal(this.closeError, error);
    else assertCode(this.closeError, error);
  }
}

/** Fails unless `error` is a SallyportError with this code and a message. */
export function assertCode(error: unknown, code: ErrorCode): void {
  assert.ok(error instanceof SallyportError, `expected a SallyportError, got ${error}`);
  assert.equal(error.code, code, error.message);
  assert.notEqual(error.message, "");
}

/** Fails unless the promise rejects with a SallyportError of this code. */
export async function assertRejects(promise: Promise<unknown>, code: ErrorCode): Promise<void> {
  const error = await promise.then(() => null, (error) => error);
  assert.notEqual(error, null, `expected a rejection with ${code}`);
  assertCode(error, code);
}

/** A listener and connections through it, each end watched. */
export class Pairs {
  readonly listener: Listener;
  readonly #harness: Harness;
  #accepted: ((conn: Conn) => void)[];

  private constructor(harness: Harness, listener: Listener, accepted: ((conn: Conn) => void)[]) {
    this.#harness = harness;
    this.listener = listener;
    this.#accepted = accepted;
  }

  static async open(harness: Harness, host: string = harness.host): Promise<Pairs> {
    const accepted: ((conn: Conn) => void)[] = [];
    const listener = await harness.runtime.listen({
      host,
      port: 0,
      accept: (conn) => accepted.shift()!(conn),
    });
    return new Pairs(harness, listener, accepted);
  }

  /** One connection: the dialler's end and the listener's; `attach: false` leaves the dialler's unattached. */
  async connect(
    options: { keep?: boolean; attach?: boolean; host?: string } = {},
  ): Promise<{ client: Watched; server: Watched }> {
    const accepting = this.accepted(options.keep);
    const conn = await this.#harness.runtime.dial({
      host: options.host ?? this.#harness.host,
      port: this.listener.address.port,
      timeoutMs: 10_000,
    });
    const client = new Watched(conn, options);
    return { client, server: await accepting };
  }

  /** The listener's end of the next connection. To be called before that is made. */
  accepted(keep = true): Promise<Watched> {
    return new Promise((resolve) => this.#accepted.push((conn) => resolve(new Watched(conn, { keep }))));
  }

  /** Takes long enough for what another connection has sent to have arrived: several exchanges over a new one. */
  async barrier(): Promise<void> {
    const { client, server } = await this.connect();
    server.onData = (chunk) => server.write(chunk);
    for (let i = 1; i <= 20; i++) {
      client.write(bytesOf("x"));
      await client.received(i);
      await new Promise<void>((resolve) => this.#harness.runtime.clock.soon(resolve));
    }
    client.abort();
    await client.sawClose;
    server.closeWrite();
    await server.sawClose;
  }
}
