/**
 * The control connection between a parent process and a worker: calls and events as lines of JSON over a Unix socket
 * (docs/protocols/cluster.md, Workers). Either end may call the other.
 *
 * @module
 */
import { z } from "zod";
import { type ErrorCode, errorCode, errorMessage, SallyportError } from "../errors.ts";
import type { Bytes } from "../bytes/bytes.ts";
import type { Clock, Conn } from "../runtime/port.ts";

/** Maximum length of a line on a control connection: a worker's metrics take a few hundred kilobytes. */
export const CONTROL_LINE_MAX_BYTES = 16 * 1024 * 1024;
/** Deadline for the answer to a call between a parent process and a worker. */
export const CONTROL_DEADLINE_MS = 10_000;

/** The methods that an end offers to the other. */
export type ControlMethods = Readonly<Record<string, (argument: unknown) => unknown>>;

const number = z.number().int().nonnegative();
const LineSchema = z.union([
  z.strictObject({ call: number, method: z.string(), argument: z.unknown().optional() }),
  z.strictObject({ answer: number, error: z.object({ code: z.string(), message: z.string() }) }),
  z.strictObject({ answer: number, result: z.unknown().optional() }),
  z.strictObject({ event: z.string(), detail: z.unknown().optional() }),
]);
type Line = z.infer<typeof LineSchema>;

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

  /** Resolves when the connection has ended. The other end's invalid line ends it: calls reject with `frame_invalid`. */
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
    const [rest, ...lines] = this.#decoder.decode(chunk, { stream: true }).split("\n");
    this.#pending += rest;
    if (this.#pending.length > CONTROL_LINE_MAX_BYTES) {
      return this.#fail(`it is longer than ${CONTROL_LINE_MAX_BYTES} bytes`);
    }
    for (const next of lines) {
      const line = parseLine(this.#pending);
      if (line === undefined) return this.#fail("it is neither a call, an answer nor an event");
      this.#pending = next;
      this.#receive(line);
    }
  }

  #fail(why: string): void {
    this.#pending = "";
    const error = new SallyportError("frame_invalid", `Cannot read line of the other process: ${why}`, {
      side: "peer",
    });
    this.#ended(error);
    this.#conn.abort(error);
  }

  #receive(line: Line): void {
    if ("call" in line) return void this.#answer(line.call, line.method, line.argument);
    if ("event" in line) return this.#listeners.get(line.event)?.(line.detail);
    const waiting = this.#calls.get(line.answer);
    if ("error" in line) {
      waiting?.reject(
        new SallyportError(line.error.code as ErrorCode, line.error.message, {
          side: "local",
          retryable: true,
        }),
      );
    } else waiting?.resolve(line.result);
  }

  async #answer(answer: number, method: string, argument: unknown): Promise<void> {
    try {
      const handler = Object.hasOwn(this.#methods, method) ? this.#methods[method] : undefined;
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

  #ended(reason = lost()): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const { reject } of this.#calls.values()) reject(reason);
    this.#over.resolve();
  }
}

/** Undefined if the text is no line of a control connection. */
function parseLine(text: string): Line | undefined {
  try {
    return LineSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

function lost(): SallyportError {
  return new SallyportError("io_failed", "Cannot ask the other process: the connection has ended", {
    side: "local",
    retryable: true,
  });
}
