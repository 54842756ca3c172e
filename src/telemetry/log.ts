/**
 * Logs: one line per event, as text for people or as JSON for machines, without worker threads or global state. Fields
 * may be hostile or secret, so every string is escaped and truncated, and secrets are redacted here, whatever the
 * caller passes.
 *
 * @module
 */

import process from "node:process";
import { InternalError } from "../errors.ts";
import { type Logger as PinoLogger, pino } from "pino";
import pinoPretty from "pino-pretty";

/** Log levels; each includes those after it, `silent` logs nothing. */
export type LogLevel = "debug" | "info" | "warn" | "error" | "silent";

/** All levels, from most to least verbose. */
export const LOG_LEVELS: readonly LogLevel[] = ["debug", "info", "warn", "error", "silent"];

/** The value of a log field; an `Error` becomes its message and, if it has one, its code. */
export type LogValue =
  | string
  | number
  | boolean
  | bigint
  | null
  | undefined
  | Error
  | readonly string[]
  | LogFields;

/** The fields of a log line; names in snake_case. `level`, `time` and `msg` are reserved. */
export interface LogFields {
  /** A field. */
  readonly [name: string]: LogValue;
}

/** Receives log lines. The minimal interface that Sallyport needs: an embedder can supply its own. */
export interface Logger {
  /** Details for troubleshooting. */
  debug(fields: LogFields, message: string): void;
  /** Normal events. */
  info(fields: LogFields, message: string): void;
  /** Something that needs attention. */
  warn(fields: LogFields, message: string): void;
  /** A failure of this program. */
  error(fields: LogFields, message: string): void;
  /** A logger that adds `fields` to every line. */
  child(fields: LogFields): Logger;
}

/** Options of {@link createLogger}. */
export interface LogOptions {
  /** The lowest level that is written. */
  readonly level: LogLevel;
  /** `text`: `[2026-01-31 12:00:00.000] INFO: session opened hostname=a.example.org`; `json`: one object a line. */
  readonly format: "text" | "json";
  /**
   * Writes each line, including its newline. Defaults to standard error (which on Deno blocks while nobody reads it).
   */
  readonly write?: (line: string) => void;
  /**
   * Colours in text. Enabled by default if standard error is a terminal that supports them, `NO_COLOR` isn't set and
   * `write` is absent.
   */
  readonly colour?: boolean;
  /** The date in milliseconds since 1970. Defaults to the system's clock. */
  readonly wallMs?: () => number;
}

/** Maximum length of a string in a log field or message, in UTF-16 units. */
const TEXT_MAX_LENGTH = 1024;
/** Maximum length of a logged stack; stacks are only logged for unexpected errors. */
const STACK_MAX_LENGTH = 4096;
/** Maximum nesting depth of log fields; deeper objects are omitted. */
const DEPTH_MAX = 4;
const LIST_MAX = 64;
const REDACTED = "[redacted]";

/** Names of fields that are never written, compared as suffixes, ignoring case, `-` and `_`. */
const SECRET_NAMES = [
  "token",
  "tokens",
  "aeskey",
  "aesiv",
  "authorization",
  "credential",
  "credentials",
  "adminkey",
  "adminkeys",
  "fernetkey",
  "fernetkeys",
  "privatekey",
  "secretkey",
  "apikey",
  "secret",
  "password",
  "bearer",
  "cookie",
];
/** Fernet tokens and bearer credentials inside other text, for example in an error message. */
const SECRET_TEXT = /\bgA{4,5}[\w-]{20,}={0,2}|\b(Bearer\s+)[\w.~+/-]+=*/gi;
/** Controls (C0, DEL, C1), line separators, and marks that change the direction of what follows. */
// deno-lint-ignore no-control-regex
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/**
 * Sanitizes untrusted text for a terminal: characters that would move its cursor, change its colours or reverse its
 * direction are shown as `\\u001b`. Line breaks and tabs are kept.
 */
export function terminalText(text: string): string {
  return text.replace(UNSAFE, (unsafe) => unsafe === "\n" || unsafe === "\t" ? unsafe : escaped(unsafe));
}

function escaped(unsafe: string): string {
  return `\\u${unsafe.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

function isSecret(name: string): boolean {
  const plain = name.toLowerCase().replace(/[-_]/g, "");
  return SECRET_NAMES.some((secret) => plain.endsWith(secret));
}

function safeText(text: string, maxLength = TEXT_MAX_LENGTH): string {
  const cut = text.length > maxLength ? `${text.slice(0, maxLength)}…` : text;
  return cut
    .replace(SECRET_TEXT, (_match, scheme?: string) => `${scheme ?? ""}${REDACTED}`)
    .replace(UNSAFE, escaped);
}

function errorFields(error: Error): Record<string, unknown> {
  const code: unknown = "code" in error ? error.code : undefined;
  const fields: Record<string, unknown> = { message: safeText(error.message) };
  if (typeof code === "string") fields.code = safeText(code);
  // A fault of this program, or an error without a code: the reader needs to know its origin.
  const origin = error instanceof InternalError && error.cause instanceof Error ? error.cause : error;
  if (origin.stack !== undefined && (typeof code !== "string" || error instanceof InternalError)) {
    fields.stack = safeText(origin.stack.replace(/\s*\n\s*/g, " | "), STACK_MAX_LENGTH);
  }
  if (error.cause instanceof Error) fields.cause = safeText(error.cause.message);
  return fields;
}

function safeValue(name: string, value: unknown, depth: number): unknown {
  if (value === undefined || value === null) return value;
  if (isSecret(name)) return REDACTED;
  switch (typeof value) {
    case "string":
      return safeText(value);
    case "number":
    case "boolean":
      return value;
    case "bigint":
      return value.toString();
    case "object":
      break;
    default:
      return undefined;
  }
  if (value instanceof Error) return errorFields(value);
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  if (depth >= DEPTH_MAX) return "[…]";
  if (Array.isArray(value)) return value.slice(0, LIST_MAX).map((item) => safeValue("", item, depth + 1));
  return safeFields(value as LogFields, depth + 1);
}

function safeFields(fields: LogFields, depth = 0): Record<string, unknown> {
  const safe: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) safe[safeText(name)] = safeValue(name, value, depth);
  return safe;
}

/** `name=value` pairs; strings are quoted if they contain a space or a quote or are empty. */
function fieldsText(fields: Record<string, unknown>): string {
  let text = "";
  for (const [name, value] of Object.entries(fields)) {
    if (name === "level" || name === "time" || name === "msg") continue;
    const plain = typeof value === "string" ? value : JSON.stringify(value);
    text += ` ${name}=${
      typeof value === "string" && !/^[^\s"=]+$/.test(value) ? JSON.stringify(value) : plain
    }`;
  }
  return text;
}

/** Pino behind the minimal interface, with every field sanitized. */
class SafeLogger implements Logger {
  readonly #pino: PinoLogger;

  constructor(inner: PinoLogger) {
    this.#pino = inner;
  }

  debug(fields: LogFields, message: string): void {
    if (this.#pino.isLevelEnabled("debug")) this.#pino.debug(safeFields(fields), safeText(message));
  }

  info(fields: LogFields, message: string): void {
    if (this.#pino.isLevelEnabled("info")) this.#pino.info(safeFields(fields), safeText(message));
  }

  warn(fields: LogFields, message: string): void {
    if (this.#pino.isLevelEnabled("warn")) this.#pino.warn(safeFields(fields), safeText(message));
  }

  error(fields: LogFields, message: string): void {
    if (this.#pino.isLevelEnabled("error")) this.#pino.error(safeFields(fields), safeText(message));
  }

  child(fields: LogFields): Logger {
    return new SafeLogger(this.#pino.child(safeFields(fields)));
  }
}

/**
 * Creates a logger. Strings are cut to 1024 characters, controls and direction marks are escaped, fields that name a
 * secret (`token`, `aes_key`, `authorization`, `credential`, …, also as a suffix and nested) and tokens inside other
 * text read `[redacted]`.
 *
 * @example
 * ```ts
 * const log = createLogger({ level: "info", format: "text" }).child({ listener: "visitors" });
 * log.info({ hostname: "a.example.org" }, "session opened");
 * ```
 */
export function createLogger(options: LogOptions): Logger {
  const { level, format } = options;
  if (level === "silent") return silentLogger;
  const write = options.write ?? ((line: string) => void process.stderr.write(line));
  const wallMs = options.wallMs ?? Date.now;
  let line = write;
  if (format === "text") {
    const colorize = options.colour ??
      (options.write === undefined && process.stderr.isTTY === true && !process.env.NO_COLOR &&
        process.env.TERM !== "dumb");
    // Only the prettifier, without pino-pretty's stream: lines are written synchronously.
    const pretty = pinoPretty.prettyFactory({
      colorize,
      hideObject: true,
      // Otherwise fields named hostname, name or pid would be mistaken for the process's and written twice.
      ignore: "",
      include: "level,time",
      translateTime: "SYS:yyyy-mm-dd HH:MM:ss.l",
      messageFormat: (log, messageKey) => `${log[messageKey]}${fieldsText(log)}`,
    });
    line = (json) => write(pretty(json));
  }
  return new SafeLogger(pino({
    level,
    base: undefined,
    messageKey: "msg",
    timestamp: () => `,"time":"${new Date(wallMs()).toISOString()}"`,
    formatters: { level: (label) => ({ level: label }) },
    // Fields are sanitized above; pino's own handling of `err` would let a stack through unescaped.
    serializers: {},
  }, { write: line }));
}

const nothing = () => {};

/** A logger that writes nothing. */
export const silentLogger: Logger = Object.freeze({
  debug: nothing,
  info: nothing,
  warn: nothing,
  error: nothing,
  child: () => silentLogger,
});
