/**
 * One request to a handler, without a network.
 *
 * @module
 */
import type { Exchange, HttpHandler } from "../../src/agent/http/exchange.ts";
import type { Layer } from "../../src/agent/http/front.ts";
import type { ByteStreamHandler } from "../../src/runtime/port.ts";
import type { Field } from "../../src/wire/http1/fields.ts";

/** A request. */
export interface Asked {
  readonly method?: string;
  readonly target?: string;
  readonly authority?: string;
  readonly fields?: readonly Field[];
  readonly visitor?: string;
}

/** The outcome. */
export interface Answered {
  readonly status: number;
  readonly fields: readonly Field[];
  readonly body: string;
  /** The value of a field of the answer. */
  field(name: string): string | undefined;
  readonly setCookies: readonly string[];
}

/** Asks a handler. */
export async function ask(handler: HttpHandler, asked: Asked = {}): Promise<Answered> {
  const answered = Promise.withResolvers<Answered>();
  let [status, body]: [number, string] = [0, ""];
  let fields: readonly Field[] = [];
  const over = () => {
    const values = (wanted: string) => fields.filter(([name]) => name === wanted).map(([, value]) => value);
    answered.resolve({
      status,
      fields,
      body,
      field: (name) => values(name)[0],
      setCookies: values("set-cookie"),
    });
  };
  const exchange: Exchange = {
    request: {
      method: asked.method ?? "GET",
      target: asked.target ?? "/",
      authority: asked.authority ?? "site.example.org",
      fields: asked.fields ?? [],
    },
    visitor: { address: asked.visitor ?? "192.0.2.1" },
    upgrade: undefined,
    hasBody: false,
    respond: (head) => ({ status, fields } = head),
    stream: {
      attach(_handler: ByteStreamHandler) {},
      write(chunk) {
        body += Buffer.from(chunk).toString("latin1");
        return true;
      },
      closeWrite: over,
      release: over,
      abort: () => answered.reject(new Error("aborted")),
      pause() {},
      resume() {},
      bufferedBytes: 0,
    },
  };
  await handler(exchange);
  return await answered.promise;
}

/** A handler behind a layer, which answers with the fields that came through, as JSON. */
export function behind(layer: Layer): HttpHandler {
  return layer(({ request, respond, stream }) => {
    respond({ status: 200, fields: [] });
    stream.write(new Uint8Array(Buffer.from(JSON.stringify(Object.fromEntries(request.fields)))));
    stream.release();
  });
}
