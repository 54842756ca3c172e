/**
 * The control connection between a parent process and a worker: calls and events as lines of JSON over a Unix socket
 * (docs/protocols/cluster.md, Workers). Either end may call the other.
 *
 * @module
 */
import { type ErrorCode, errorCode, errorMessage, SallyportError } from "../errors.ts";
import type { Bytes } from "../bytes/bytes.ts";
import type { Clock, Conn } from "../runtime/port.ts";

/** Maximum length of a line on a control connection: a worker's metrics take a few hundred kilobytes. */
export const CONTROL_LINE_MAX_BYTES = 16 * 1024 * 1024;
/** Deadline for the answer to a call between a parent process and a worker. */
export const CONTROL_DEADLINE_MS = 10_000;

/** The methods that an end offers to the other. */
export type ControlMethods = Readonly<Record<string, (argument: unknown) => unknown>>;

type Line =
  | { readonly call: number; readonly method: string; readonly argument: unknown }
  | { readonly answer: number; readonly result: unknown }
  | { readonly answer: number; readonly error: { readonly code: ErrorCode; readonly message: string } }
  | { readonly event: string; readonly detail: unknown };

/** One end of a control connection. */
export class ControlConnection {
  readonly #conn: Conn;
  readonly #clock: Clock;
  #methods: ControlMethods;
  readonly #calls = new Map<number, { resolve(result: unknown): void; reject(error: unknown): void }>();
  readonly #listeners = new Map<string, (detail: unknown) => void>();
  readonly #decoder = new TextDecoder();
  readonly #over = Promise.withResolvers<void>();
  #pending = "";
  #next = 0;
  #closed = false;

  /** Takes over a connection. `methods` are what the other end may call. */
  constructor(conn: Conn, clock: Clock, methods: ControlMethods) {
    this.#conn = conn;
    this.#clock = clock;
    this.#methods = methods;
    conn.attach({
      data: (chunk) => this.#data(chunk),
      end: () => this.close(),
      drain() {},
      close: () => this.#ended(),
    });
  }

  /** Resolves when the connection has ended. */
  get over(): Promise<void> {
    return this.#over.promise;
  }

  /** Calls a method of the other end. Rejects with its error, or with `io_failed` if no answer arrives. */
  call<Result>(method: string, argument?: unknown): Promise<Result> {
    if (this.#closed) return Promise.reject(lost());
    const call = this.#next++;
    const answered = Promise.withResolvers<unknown>();
    this.#calls.set(call, answered);
    const timer = this.#clock.after(CONTROL_DEADLINE_MS, () => {
      const why = `Cannot ask the other process: no answer to ${method} in ${CONTROL_DEADLINE_MS / 1000} s`;
      answered.reject(new SallyportError("io_failed", why, { side: "local", retryable: true }));
    });
    this.#send({ call, method, argument });
    return answered.promise.finally(() => {
      timer.cancel();
      this.#calls.delete(call);
    }) as Promise<Result>;
  }

  /** Offers the other end further methods. */
  add(methods: ControlMethods): void {
    this.#methods = { ...this.#methods, ...methods };
  }

  /** Sends an event to the other end; there is no answer. */
  tell(event: string, detail: unknown): void {
    if (!this.#closed) this.#send({ event, detail });
  }

  /** Calls `listener` for events of this name. */
  on(event: string, listener: (detail: unknown) => void): void {
    this.#listeners.set(event, listener);
  }

  /** Ends the connection. */
  close(): void {
    this.#conn.release();
    this.#ended();
  }

  #data(chunk: Bytes): void {
    const lines = (this.#pending + this.#decoder.decode(chunk, { stream: true })).split("\n");
    this.#pending = lines.pop()!;
    if (this.#pending.length > CONTROL_LINE_MAX_BYTES) return this.#conn.abort();
    for (const line of lines) this.#receive(JSON.parse(line) as Line);
  }

  #receive(line: Line): void {
    if ("call" in line) return void this.#answer(line.call, line.method, line.argument);
    if ("event" in line) return this.#listeners.get(line.event)?.(line.detail);
    const waiting = this.#calls.get(line.answer);
    if ("error" in line) {
      waiting?.reject(
        new SallyportError(line.error.code, line.error.message, { side: "local", retryable: true }),
      );
    } else waiting?.resolve(line.result);
  }

  async #answer(answer: number, method: string, argument: unknown): Promise<void> {
    try {
      const handler = this.#methods[method];
      if (handler === undefined) {
        throw new SallyportError("not_supported", `No method ${method}`, { side: "local" });
      }
      this.#send({ answer, result: await handler(argument) ?? null });
    } catch (error) {
      this.#send({ answer, error: { code: errorCode(error), message: errorMessage(error) } });
    }
  }

  #send(line: Line): void {
    this.#conn.write(new TextEncoder().encode(`${JSON.stringify(line)}\n`));
  }

  #ended(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const { reject } of this.#calls.values()) reject(lost());
    this.#over.resolve();
  }
}

function lost(): SallyportError {
  return new SallyportError("io_failed", "Cannot ask the other process: the connection has ended", {
    side: "local",
    retryable: true,
  });
}
