/**
 * Calls a session master's API, with bounds on every part of its responses.
 *
 * @module
 */
import { z } from "zod";
import { readAtMost } from "../bytes/read_at_most.ts";
import { SallyportError } from "../errors.ts";
import type { Fetch } from "../runtime/port.ts";
import { tracedFetch } from "../telemetry/traced_fetch.ts";
import type { Tracer } from "../telemetry/tracing.ts";
import { printableName } from "../wire/hostname.ts";
import { isLoopbackHost } from "./edge_place.ts";
import { fetchFailure } from "./fetch_failure.ts";

/** The session master's response must be complete within this time. */
export const MASTER_TIMEOUT_MS = 15_000;
/** Largest response that an agent reads from a session master. */
export const MASTER_ANSWER_MAX_BYTES = 256 * 1024;
/** Longest wait that a session master may request. */
export const RETRY_AFTER_MAX_MS = 10 * 60_000;
/** Maximum characters of a session master's text in a message. */
const DETAIL_MAX_LENGTH = 300;

/** Authenticates requests to the session master. */
export interface MasterCredential {
  /** The Authorization value for one request; `path` is the API's, without the master's base path. */
  authorization(request: { readonly method: string; readonly path: string }): string;
  /** Called with the master's time after a request was signed with a wrong clock. */
  timeIs?(wallMs: number): void;
}

/** A session master. */
export interface MasterClientOptions {
  /** Its base URL, such as `https://master.example.org`. */
  readonly master: string;
  /** Absent if none is needed. */
  readonly credential?: string | MasterCredential;
  /** Allows `http://` to another machine: anyone on the path can read and modify everything. */
  readonly insecure?: boolean;
  /** Prefix of error messages, such as "Cannot get token". */
  readonly what: string;
  /** Largest response read. Defaults to {@link MASTER_ANSWER_MAX_BYTES}. */
  readonly answerMaxBytes?: number;
  /** For tests and embedders. Defaults to the platform's `fetch`. */
  readonly fetch?: Fetch;
  /** Tracer for requests. Defaults to no tracing. */
  readonly tracer?: Tracer;
}

/** A response. */
export interface MasterAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The text as parsed JSON; undefined if it isn't JSON. */
  readonly body: unknown;
}

/** Statuses of requests that the session master understood, and didn't carry out. */
const MISTAKES: readonly number[] = [403, 404, 409, 412, 422];

const problemSchema = z.object({ title: z.string().optional(), detail: z.string().optional() });

/** A client of one session master. */
export class MasterClient {
  readonly #options: MasterClientOptions;
  readonly #base: URL;
  readonly #fetch: Fetch;

  /** @throws SallyportError `config_invalid` for `http://` to another machine without consent. */
  constructor(options: MasterClientOptions) {
    this.#options = options;
    this.#fetch = tracedFetch(options.fetch ?? ((request) => fetch(request)), options.tracer);
    this.#base = new URL(options.master.endsWith("/") ? options.master : `${options.master}/`);
    if (
      this.#base.protocol === "http:" && !isLoopbackHost(this.#base.hostname) && options.insecure !== true
    ) {
      const why =
        `${this.#base.origin} is another machine, and http makes keys and tokens readable on the network; ` +
        "use https, or --insecure-master";
      throw new SallyportError("config_invalid", `${options.what}: ${why}`, { side: "config" });
    }
  }

  /** The master, for messages. */
  get origin(): string {
    return this.#base.origin;
  }

  /** Calls the API; `path` begins with /v1/. Resolves with any response, including errors. */
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
    // Signed with a wrong clock: retry once with the master's time.
    credential.timeIs!(Date.parse(date));
    return await this.#call(method, path, body, headers);
  }

  async #call(
    method: string,
    path: string,
    body: unknown,
    headers: Readonly<Record<string, string>>,
  ): Promise<MasterAnswer> {
    const { credential } = this.#options;
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
      const response = await this.#fetch(request);
      const text = await this.#read(response);
      return { status: response.status, headers: response.headers, text, body: parseJson(text) };
    } catch (cause) {
      if (cause instanceof SallyportError) throw cause;
      throw this.unreachable(fetchFailure(cause, this.#base), cause);
    }
  }

  /** The error for a response that says in its own words what is wrong with the request; undefined for others. */
  mistake({ status, body }: MasterAnswer): SallyportError | undefined {
    const problem = problemSchema.safeParse(body);
    if (!MISTAKES.includes(status) || !problem.success || problem.data.detail === undefined) return undefined;
    const code = status === 403 ? "credential_refused" : "config_invalid";
    return new SallyportError(code, printableWords(problem.data.detail), { side: "config" });
  }

  /** The error for an unsuccessful response. */
  refusal({ status, headers, body }: MasterAnswer): SallyportError {
    const problem = problemSchema.safeParse(body);
    const why = problem.success ? problem.data.detail ?? problem.data.title : undefined;
    // The master's text is untrusted: nothing in it may control a terminal.
    const said = `it answered ${status}${
      why === undefined ? ", not in a session master's words: check the address" : `: ${printableWords(why)}`
    }`;
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

  /** The error for a master that doesn't respond properly. */
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
    const { answerMaxBytes = MASTER_ANSWER_MAX_BYTES } = this.#options;
    const answer = await readAtMost(reader, answerMaxBytes);
    if (answer !== undefined) return new TextDecoder().decode(answer);
    void reader.cancel().catch(() => {});
    throw this.unreachable(`its answer has more than ${answerMaxBytes} bytes`);
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Retry-After in milliseconds (RFC 9110 §10.2.3), bounded; undefined if absent. */
function waitOf(headers: Headers): number | undefined {
  const text = headers.get("retry-after")?.trim();
  if (text === undefined) return undefined;
  const ms = /^\d{1,9}$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(0, ms), RETRY_AFTER_MAX_MS);
}

/** Sanitises untrusted text for a message. */
function printableWords(text: string): string {
  return printableName(text, DETAIL_MAX_LENGTH).replaceAll("\\u{22}", '"');
}
