/**
 * A fetch over Sallyport's own connections, for cases that the runtime's can't handle: any kind of proxy, or a fixed
 * address.
 *
 * @module
 */
import { type Bytes, concat } from "../bytes/bytes.ts";
import { SallyportError } from "../errors.ts";
import {
  type ByteStream,
  type ByteStreamHandler,
  DIAL_TIMEOUT_MS,
  type Fetch,
  type Runtime,
} from "./port.ts";
import { Faults } from "./shared.ts";
import { BodyReader } from "../wire/http1/body.ts";
import {
  HTTP_HEAD_MAX_BYTES,
  readResponseHead,
  type ResponseHead,
  writeRequestHead,
} from "../wire/http1/head.ts";
import { type ChainJudge, secureTarget } from "./tls_client.ts";
import { untilAborted } from "./until_aborted.ts";
import { unbracketed } from "../wire/ip/host_port.ts";

/** Largest response; a grant with hundreds of names is shorter. */
export const FETCH_ANSWER_MAX_BYTES = 1024 * 1024;

/**
 * Sends requests over connections dialled by this runtime, one per request; redirects aren't followed. `judge` takes the
 * place of the runtime's verification of certificates.
 */
export function fetchOver(
  runtime: Pick<Runtime, "dial" | "clock">,
  judge?: ChainJudge,
): Fetch {
  const faults = new Faults();
  return async (request) => {
    const url = new URL(request.url);
    const secure = url.protocol === "https:";
    const host = unbracketed(url.hostname);
    const port = Number(url.port) || (secure ? 443 : 80);
    const { clock } = runtime;
    const { signal } = request;
    const body = new Uint8Array(await request.arrayBuffer());
    const timeoutMs = DIAL_TIMEOUT_MS;
    const conn = await untilAborted(
      runtime.dial({ host, port, timeoutMs }),
      signal,
      (dialling) => void dialling.then((late) => late.abort(), () => {}),
    );
    const verify = judge ?? true;
    const stream = secure
      ? await untilAborted(
        secureTarget(conn, { clock, faults, host, verify, timeoutMs }),
        signal,
        () => conn.abort(),
      )
      : conn;
    const head = writeRequestHead(request.method, url.pathname + url.search, [
      ["host", url.host],
      ["connection", "close"],
      ["content-length", String(body.length)],
      ...[...request.headers].filter(([name]) => !["host", "content-length"].includes(name)),
    ]);
    const answer = new AnswerReader(stream, request);
    stream.attach(answer);
    stream.write(head);
    if (body.length > 0) stream.write(body);
    return await untilAborted(answer.response, signal, () => answer.fail(signal.reason));
  };
}

/** Reads the answer to one request from its connection. */
class AnswerReader implements ByteStreamHandler {
  readonly #stream: ByteStream;
  readonly #request: Request;
  readonly #outcome = Promise.withResolvers<Response>();
  /** The beginning of a head. */
  #received: Bytes = new Uint8Array(0);
  #head: ResponseHead | undefined;
  #body: BodyReader | undefined;
  readonly #parts: Bytes[] = [];
  #byteLength = 0;
  #over = false;

  constructor(stream: ByteStream, request: Request) {
    this.#stream = stream;
    this.#request = request;
  }

  get response(): Promise<Response> {
    return this.#outcome.promise;
  }

  data(chunk: Bytes): void {
    if (this.#over) return;
    try {
      if (this.#body === undefined) this.#takeHead(concat([this.#received, chunk]));
      else this.#takeBody(this.#body, chunk);
    } catch (error) {
      this.fail(error);
    }
  }

  end(): void {
    if (this.#body?.end() === true) this.#finish();
    else this.fail(this.#lost("it ended the connection before its answer was complete"));
  }

  drain(): void {}

  close(error?: Error): void {
    this.fail(error ?? this.#lost("it ended the connection"));
  }

  /** Gives up, unless the answer is complete. */
  fail(error: unknown): void {
    if (this.#over) return;
    this.#over = true;
    this.#stream.abort();
    this.#outcome.reject(error);
  }

  #takeHead(bytes: Bytes): void {
    const outcome = readResponseHead(bytes, this.#request.method);
    if (outcome.kind === "invalid") throw this.#lost(`its answer isn't HTTP: ${outcome.why}`);
    if (outcome.kind === "incomplete") {
      if (bytes.length > HTTP_HEAD_MAX_BYTES) throw this.#lost("its answer is incomplete");
      this.#received = bytes;
      return;
    }
    const rest = bytes.slice(outcome.byteLength);
    // After an interim response the final one follows.
    if (outcome.head.status < 200) return this.#takeHead(rest);
    this.#head = outcome.head;
    this.#body = new BodyReader(outcome.framing);
    this.#takeBody(this.#body, rest);
  }

  #takeBody(body: BodyReader, chunk: Bytes): void {
    body.push(chunk, (piece) => {
      this.#byteLength += piece.length;
      if (this.#byteLength > FETCH_ANSWER_MAX_BYTES) throw this.#lost("its answer is too long");
      this.#parts.push(piece.slice());
    });
    if (body.done) this.#finish();
  }

  #finish(): void {
    if (this.#over) return;
    this.#over = true;
    this.#stream.release();
    const { status, fields } = this.#head!;
    const content = status === 204 || status === 304 ? null : new Blob(this.#parts);
    const headers = fields.map(([name, value]): [string, string] => [name, value]);
    this.#outcome.resolve(new Response(content, { status, headers }));
  }

  #lost(why: string): SallyportError {
    const { origin } = new URL(this.#request.url);
    return new SallyportError("connection_lost", `Cannot fetch from ${origin}: ${why}`, {
      side: "network",
      retryable: true,
    });
  }
}
