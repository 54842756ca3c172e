/**
 * A fetch over Sallyport's own connections, for cases that the runtime's can't handle: any kind of proxy, or a fixed
 * address.
 *
 * @module
 */
import { type Bytes, concat } from "../bytes/bytes.ts";
import { SallyportError } from "../errors.ts";
import { type ByteStream, DIAL_TIMEOUT_MS, type Fetch, type Runtime } from "./port.ts";
import { Faults } from "./shared.ts";
import { BodyReader } from "../wire/http1/body.ts";
import {
  HTTP_HEAD_MAX_BYTES,
  readResponseHead,
  type ResponseHead,
  writeRequestHead,
} from "../wire/http1/head.ts";
import { type ChainJudge, secureTarget } from "./tls_client.ts";
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
    const body = new Uint8Array(await request.arrayBuffer());
    const conn = await runtime.dial({ host, port, timeoutMs: DIAL_TIMEOUT_MS });
    const { clock } = runtime;
    const stream = secure
      ? await secureTarget(conn, { clock, faults, host, verify: judge ?? true, timeoutMs: DIAL_TIMEOUT_MS })
      : conn;
    const head = writeRequestHead(request.method, url.pathname + url.search, [
      ["host", url.host],
      ["connection", "close"],
      ["content-length", String(body.length)],
      ...[...request.headers].filter(([name]) => !["host", "content-length"].includes(name)),
    ]);
    return await answerOf(stream, request, () => {
      stream.write(head);
      if (body.length > 0) stream.write(body);
    });
  };
}

function answerOf(stream: ByteStream, request: Request, send: () => void): Promise<Response> {
  return new Promise((resolve, reject) => {
    const lost = (why: string) =>
      new SallyportError("connection_lost", `Cannot fetch from ${new URL(request.url).origin}: ${why}`, {
        side: "network",
        retryable: true,
      });
    let received: Bytes = new Uint8Array(0);
    let head: ResponseHead | undefined;
    let reader: BodyReader | undefined;
    const parts: Bytes[] = [];
    let byteLength = 0;
    const finish = (error?: unknown) => {
      request.signal.removeEventListener("abort", aborted);
      if (error === undefined) stream.release();
      else stream.abort();
      if (error !== undefined || head === undefined) return reject(error ?? lost("there is no answer"));
      const { status, fields } = head;
      const content = status === 204 || status === 304 ? null : new Blob(parts);
      resolve(new Response(content, { status, headers: fields.map(([name, value]) => [name, value]) }));
    };
    const aborted = () => finish(request.signal.reason);
    const take = (chunk: Bytes) => {
      reader!.push(chunk, (piece) => {
        byteLength += piece.length;
        if (byteLength > FETCH_ANSWER_MAX_BYTES) throw lost("its answer is too long");
        parts.push(piece.slice());
      });
      if (reader!.done) finish();
    };
    stream.attach({
      data(chunk) {
        try {
          if (reader !== undefined) return take(chunk);
          received = concat([received, chunk]);
          const outcome = readResponseHead(received, request.method);
          if (outcome.kind === "invalid") throw lost(`its answer isn't HTTP: ${outcome.why}`);
          if (outcome.kind === "incomplete") {
            if (received.length > HTTP_HEAD_MAX_BYTES) throw lost("its answer is incomplete");
            return;
          }
          const rest = received.slice(outcome.byteLength);
          // An interim response: the final one follows.
          if (outcome.head.status < 200) {
            received = new Uint8Array(0);
            return rest.length === 0 ? undefined : this.data(rest);
          }
          head = outcome.head;
          reader = new BodyReader(outcome.framing);
          if (reader.done) finish();
          else if (rest.length > 0) take(rest);
        } catch (error) {
          finish(error);
        }
      },
      end() {
        if (reader?.done === true) return;
        finish(
          reader?.end() === true ? undefined : lost("it ended the connection before its answer was complete"),
        );
      },
      drain() {},
      close(error) {
        finish(error ?? lost("it ended the connection"));
      },
    });
    if (request.signal.aborted) return aborted();
    request.signal.addEventListener("abort", aborted, { once: true });
    send();
  });
}
