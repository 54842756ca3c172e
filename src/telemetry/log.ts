/**
 * Logs: one line an event, as text for people or as JSON for machines, without worker threads and without global
 * state. What goes in may be hostile or secret, so every string is escaped and cut, and secrets are left out here,
 * whatever the caller thought of.
 *
 * @module
 */

import process from "node:process";
import { InternalError } from "../errors.ts";
import { type Logger as PinoLogger, pino } from "pino";
import pinoPretty from "pino-pretty";

/** How much is logged; each level includes those behind it, `silent` nothing. */
export type LogLevel = "debug" | "info" | "warn" | "error" | "silent";

/** All levels, from the most to the least. */
export const LOG_LEVELS: readonly LogLevel[] = ["debug", "info", "warn", "error", "silent"];

/** What a field of a log line may hold; an `Error` becomes its message and, where it has one, its code. */
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

/** The fields of a log line; names in snake_case. `level`, `time` and `msg` are taken. */
export interface LogFields {
  /** A field. */
  readonly [name: string]: LogValue;
}

/** Takes log lines. The narrow part of a logger that Sallyport needs: an embedder can bring another one. */
export interface Logger {
  /** For who looks for a fault. */
  debug(fields: LogFields, message: string): void;
  /** What happens. */
  info(fields: LogFields, message: string): void;
  /** What somebody should know of. */
  warn(fields: LogFields, message: string): void;
  /** What is broken here. */
  error(fields: LogFields, message: string): void;
  /** A logger that adds `fields` to every line. */
  child(fields: LogFields): Logger;
}

/** What {@link createLogger} takes. */
export interface LogOptions {
  /** The least that is written. */
  readonly level: LogLevel;
  /** `text`: `[2026-01-31 12:00:00.000] INFO: session opened hostname=a.example.org`; `json`: one object a line. */
  readonly format: "text" | "json";
  /** Takes each line, with its newline; standard error when absent (which on Deno waits while nobody reads it). */
  readonly write?: (line: string) => void;
  /** Colours in text; by default when standard error is a terminal, it isn't a dumb one, `NO_COLOR` isn't set and `write` is absent. */
  readonly colour?: boolean;
  /** The date in milliseconds since 1970; the system's clock when absent. */
  readonly wallMs?: () => number;
}

/** Longest string that a field or a message keeps, in UTF-16 units. */
const TEXT_MAX_LENGTH = 1024;
/** Stacks are longer, and worth it: they are only logged for errors that nobody expected. */
const STACK_MAX_LENGTH = 4096;
/** Nesting that is logged; deeper objects are left out. */
const DEPTH_MAX = 4;
const LIST_MAX = 64;
const REDACTED = "[redacted]";

/** Names of fields that are never written, compared without case, `-` and `_`, as the end of the name. */
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
/** Fernet tokens and bearer credentials inside other text, an error's message for example. */
const SECRET_TEXT = /\bgA{4,5}[\w-]{20,}={0,2}|\b(Bearer\s+)[\w.~+/-]+=*/gi;
/** Controls (C0, DEL, C1), line separators, and marks that change the direction of what follows. */
// deno-lint-ignore no-control-regex
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/**
 * Text that may come from anywhere, fit for a terminal: what would move its cursor, change its colours or reverse its
 * direction is shown as `\\u001b`. Line breaks and tabs stay.
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
  // A fault of this program, or an error without a code: where it came from is what its reader needs.
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

/** `name=value` pairs; strings are quoted when they hold a space, a quote or nothing. */
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

/** Pino's methods behind the narrow interface, with every field made safe on its way. */
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
 * Makes a logger. Strings are cut to 1024 characters, controls and marks of direction are escaped, fields that name
 * a secret (`token`, `aes_key`, `authorization`, `credential`, …, also as the end of a name and nested) and tokens
 * inside other text read `[redacted]`.
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
    // The prettifier alone, without the stream that pino-pretty puts around it: lines leave in this very call.
    const pretty = pinoPretty.prettyFactory({
      colorize,
      hideObject: true,
      // Otherwise a field named hostname, name or pid would be taken for the process's and written twice.
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
    // Fields are made safe above; pino's own treatment of `err` would let a stack through unescaped.
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
