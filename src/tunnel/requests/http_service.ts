/**
 * HTTP as a service of tunnels: a stream carries HTTP/1.1, and a fetch handler answers. The runtime's `node:http` reads
 * and writes the messages on the stream itself; no port is opened for it.
 *
 * @module
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { ByteStream, Clock, Timer } from "../../runtime/port.ts";
import { toNodeDuplex } from "./node_duplex.ts";
import type { TunnelRequest, TunnelService } from "./router.ts";
import { IDLE_TICK_MS, IDLE_TICKS } from "../../protocol/mux/heartbeat.ts";

/** What {@link httpService} takes. */
export interface HttpServiceOptions {
  /** Answers one request; `by` is the tunnel's request by which its connection came. */
  fetch(request: Request, by: TunnelRequest): Response | Promise<Response>;
  readonly clock: Clock;
}

/**
 * Makes the service. It takes every request for a stream; a stream carries one HTTP request, and is ended when no
 * byte has gone either way for 90 to 120 s. What the handler throws is answered with 500.
 *
 * @example
 * ```ts
 * const router = createRouter({ "/http": httpService({ clock: runtime.clock, fetch: app.fetch }) });
 * ```
 */
export function httpService(options: HttpServiceOptions): TunnelService {
  return (by) => (stream) => {
    // One for each stream: what it answers with depends on by whom it came.
    const server: Server = createServer((incoming, outgoing) => {
      answer(options, by, incoming, outgoing).catch(() => outgoing.destroy());
    });
    server.on("clientError", (_error, socket) => socket.destroy());
    const duplex = toNodeDuplex(watched(stream, options.clock));
    server.emit("connection", duplex);
  };
}

async function answer(
  { fetch }: HttpServiceOptions,
  by: TunnelRequest,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
): Promise<void> {
  const leaving = new AbortController();
  outgoing.once("close", () => leaving.abort());
  let response: Response;
  try {
    response = await fetch(requestOf(incoming, leaving.signal), by);
  } catch {
    response = new Response("internal error\n", { status: 500 });
  }
  // Streams are cheap, and Deno ends this one behind the answer in any case.
  const headers = [...response.headers].filter(([name]) => name !== "connection");
  outgoing.writeHead(response.status, [...headers, ["connection", "close"]].flat());
  const reader = response.body?.getReader();
  if (reader === undefined || incoming.method === "HEAD") {
    await reader?.cancel();
    outgoing.end();
    return;
  }
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      if (leaving.signal.aborted) return await reader.cancel();
      if (!outgoing.write(value)) await taken(outgoing, leaving.signal);
    }
    outgoing.end();
  } catch (error) {
    // The length or the last chunk is missing, by which the other side sees that it isn't whole.
    outgoing.destroy();
    await reader.cancel(error).catch(() => {});
  }
}

/** Until the response takes more, or is over. */
function taken(outgoing: ServerResponse, over: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const goOn = () => {
      outgoing.off("drain", goOn);
      over.removeEventListener("abort", goOn);
      resolve();
    };
    outgoing.once("drain", goOn);
    over.addEventListener("abort", goOn, { once: true });
    if (over.aborted) goOn();
  });
}

function requestOf(incoming: IncomingMessage, signal: AbortSignal): Request {
  const headers = new Headers();
  for (let i = 0; i + 1 < incoming.rawHeaders.length; i += 2) {
    headers.append(incoming.rawHeaders[i]!, incoming.rawHeaders[i + 1]!);
  }
  const method = incoming.method ?? "GET";
  const hasBody = method !== "GET" && method !== "HEAD";
  return new Request(urlOf(incoming), {
    method,
    headers,
    signal,
    ...hasBody ? { body: bodyOf(incoming), duplex: "half" } : {},
  } as RequestInit);
}

/** A host that is none is left out: whom the request came by is known without it. */
function urlOf({ url = "/", headers: { host = "" } }: IncomingMessage): URL {
  const path = url.startsWith("/") ? url : "/";
  try {
    return new URL(`http://${host}${path}`);
  } catch {
    return new URL(`http://localhost${path}`);
  }
}

/** Read as it is wanted, so that a handler that doesn't read holds the sender back. */
function bodyOf(incoming: IncomingMessage): ReadableStream<Uint8Array> {
  const chunks = incoming[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await chunks.next();
      if (done === true) controller.close();
      else controller.enqueue(value);
    },
    cancel: async () => void await chunks.return?.(),
  }, { highWaterMark: 0 });
}

/** The same stream, which is aborted when nothing moves. */
function watched(stream: ByteStream, clock: Clock): ByteStream {
  let moved = 0;
  let idleTicks = 0;
  let timer: Timer | undefined;
  const watch = (seen: number) => {
    timer = clock.after(IDLE_TICK_MS, () => {
      idleTicks = moved === seen ? idleTicks + 1 : 0;
      if (idleTicks >= IDLE_TICKS - 1) stream.abort();
      else watch(moved);
    });
  };
  watch(moved);
  return {
    get bufferedBytes() {
      return stream.bufferedBytes;
    },
    attach: (handler) =>
      stream.attach({
        data: (chunk) => {
          moved++;
          handler.data(chunk);
        },
        end: () => handler.end(),
        drain: () => {
          moved++;
          handler.drain();
        },
        close: (error) => {
          timer?.cancel();
          handler.close(error);
        },
      }),
    write: (chunk) => {
      moved++;
      return stream.write(chunk);
    },
    closeWrite: () => stream.closeWrite(),
    abort: (error) => stream.abort(error),
    release: () => stream.release(),
    pause: () => stream.pause(),
    resume: () => stream.resume(),
  };
}
