/**
 * Calls of a session master's API, with bounds on everything that it may answer.
 *
 * @module
 */
import { z } from "zod";
import { SallyportError } from "../errors.ts";
import { printableName } from "../wire/hostname.ts";
import { isLoopbackHost } from "./edge_place.ts";
import { fetchFailure } from "./fetch_failure.ts";

/** An answer of the session master must be complete by then. */
export const MASTER_TIMEOUT_MS = 15_000;
/** The largest answer of a session master that is read. */
export const MASTER_ANSWER_MAX_BYTES = 256 * 1024;
/** The longest wait that a session master may ask for. */
export const RETRY_AFTER_MAX_MS = 10 * 60_000;
/** Characters of a session master's own words that get into a message. */
const DETAIL_MAX_LENGTH = 300;

/** What shows the session master who asks. */
export interface MasterCredential {
  /** The value of Authorization for one request; `path` is that of the API, without the master's own base path. */
  authorization(request: { readonly method: string; readonly path: string }): string;
  /** The master says that it is this late: the request was signed at another time. */
  timeIs?(wallMs: number): void;
}

/** A session master. */
export interface MasterClientOptions {
  /** Its base URL, such as `https://master.example.org`. */
  readonly master: string;
  /** Absent where none is needed. */
  readonly credential?: string | MasterCredential;
  /** Allows `http://` to another machine: who is on the way sees and changes everything. */
  readonly insecure?: boolean;
  /** What a message begins with: "Cannot get token". */
  readonly what: string;
  /** For tests and embedders; the platform's own when absent. */
  readonly fetch?: (request: Request) => Promise<Response>;
}

/** An answer. */
export interface MasterAnswer {
  readonly status: number;
  readonly headers: Headers;
  /** As JSON; undefined for what is none. */
  readonly body: unknown;
}

const problemSchema = z.object({ title: z.string().optional(), detail: z.string().optional() });

/** See the module. */
export class MasterClient {
  readonly #options: MasterClientOptions;
  readonly #base: URL;

  /** @throws SallyportError `config_invalid` for `http://` to another machine without consent. */
  constructor(options: MasterClientOptions) {
    this.#options = options;
    this.#base = new URL(options.master.endsWith("/") ? options.master : `${options.master}/`);
    if (
      this.#base.protocol === "http:" && !isLoopbackHost(this.#base.hostname) && options.insecure !== true
    ) {
      const why =
        `${this.#base.origin} is another machine, and http shows keys and tokens to everybody on the way; ` +
        "use https, or --insecure-master";
      throw new SallyportError("config_invalid", `${options.what}: ${why}`, { side: "config" });
    }
  }

  /** The master, for messages. */
  get origin(): string {
    return this.#base.origin;
  }

  /** Calls the API; `path` begins with /v1/. Resolves with whatever is answered, also errors. */
  async call(
    method: string,
    path: string,
    body?: unknown,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<MasterAnswer> {
    const first = await this.#call(method, path, body, headers);
    const { credential } = this.#options;
    const date = first.headers.get("date");
    const late = first.status === 401 && typeof credential === "object" && credential.timeIs !== undefined;
    if (!late || date === null || Number.isNaN(Date.parse(date))) return first;
    // Signed with a clock that is wrong: once more with the master's.
    credential.timeIs!(Date.parse(date));
    return await this.#call(method, path, body, headers);
  }

  async #call(
    method: string,
    path: string,
    body: unknown,
    headers: Readonly<Record<string, string>>,
  ): Promise<MasterAnswer> {
    const { credential, fetch: call = (request) => fetch(request) } = this.#options;
    const authorization = typeof credential === "string"
      ? `Bearer ${credential}`
      : credential?.authorization({ method, path: path.split("?")[0]! });
    const request = new Request(new URL(path.slice(1), this.#base), {
      method,
      headers: {
        ...headers,
        ...authorization === undefined ? {} : { authorization },
        ...body === undefined ? {} : { "content-type": "application/json" },
      },
      ...body === undefined ? {} : { body: JSON.stringify(body) },
      redirect: "error",
      signal: AbortSignal.timeout(MASTER_TIMEOUT_MS),
    });
    try {
      const response = await call(request);
      return {
        status: response.status,
        headers: response.headers,
        body: parseJson(await this.#read(response)),
      };
    } catch (cause) {
      if (cause instanceof SallyportError) throw cause;
      throw this.unreachable(fetchFailure(cause, this.#base), cause);
    }
  }

  /** The error of an answer that is no success. */
  refusal({ status, headers, body }: MasterAnswer): SallyportError {
    const problem = problemSchema.safeParse(body);
    const why = problem.success ? problem.data.detail ?? problem.data.title : undefined;
    // The master's words come from elsewhere: nothing in them may steer a terminal.
    const said = `it answered ${status}${why === undefined ? "" : `: ${printableWords(why)}`}`;
    const what = `${this.#options.what} from ${this.origin}`;
    if (status === 401 || status === 403) {
      return new SallyportError("credential_refused", `${what}: credential refused: ${said}`, {
        side: "config",
      });
    }
    if (status >= 400 && status < 500 && status !== 408 && status !== 429) {
      return new SallyportError("config_invalid", `${what}: ${said}`, { side: "config" });
    }
    const retryAfterMs = waitOf(headers);
    if (status === 429) {
      return new SallyportError("limit_exceeded", `${what}: ${said}`, {
        side: "peer",
        retryable: true,
        retryAfterMs,
      });
    }
    return this.unreachable(said, undefined, retryAfterMs);
  }

  /** The error of a master that doesn't answer as it should. */
  unreachable(why: string, cause?: unknown, retryAfterMs?: number): SallyportError {
    return new SallyportError("master_unreachable", `${this.#options.what} from ${this.origin}: ${why}`, {
      side: "network",
      retryable: true,
      cause,
      retryAfterMs,
    });
  }

  async #read(response: Response): Promise<string> {
    const reader = response.body?.getReader();
    if (reader === undefined) return "";
    const chunks: Uint8Array[] = [];
    let size = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      size += value.length;
      if (size > MASTER_ANSWER_MAX_BYTES) {
        void reader.cancel().catch(() => {});
        throw this.unreachable(`its answer has more than ${MASTER_ANSWER_MAX_BYTES} bytes`);
      }
      chunks.push(value);
    }
    const whole = new Uint8Array(size);
    let at = 0;
    for (const chunk of chunks) {
      whole.set(chunk, at);
      at += chunk.length;
    }
    return new TextDecoder().decode(whole);
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Retry-After in milliseconds (RFC 9110 §10.2.3), bounded; undefined where it isn't said. */
function waitOf(headers: Headers): number | undefined {
  const text = headers.get("retry-after")?.trim();
  if (text === undefined) return undefined;
  const ms = /^\d{1,9}$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(0, ms), RETRY_AFTER_MAX_MS);
}

/** Somebody else's words as a message may hold them. */
function printableWords(text: string): string {
  return printableName(text, DETAIL_MAX_LENGTH).replaceAll("\\u{22}", '"');
}
