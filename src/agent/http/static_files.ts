/**
 * Serves a folder as a web site: types, ranges, conditional requests, `index.html`. Nothing outside the folder is
 * served, nor anything whose name begins with a dot.
 *
 * @module
 */
import { IGNORE_STREAM } from "../../runtime/port.ts";
import { type FileHandle, open, realpath, stat } from "node:fs/promises";
import { extname, join, sep } from "node:path";
import { type Field, fieldOf } from "../../wire/http1/fields.ts";
import { type Exchange, type HttpHandler, respondText } from "./exchange.ts";

/** Bytes of a file that are read at a time. */
const PIECE_BYTES = 64 * 1024;

/** Types of files that browsers request; everything else is offered as a download. */
const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".htm": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".json": "application/json",
  ".map": "application/json",
  ".webmanifest": "application/manifest+json",
  ".txt": "text/plain; charset=utf-8",
  ".md": "text/markdown; charset=utf-8",
  ".csv": "text/csv; charset=utf-8",
  ".xml": "application/xml",
  ".svg": "image/svg+xml",
  ".png": "image/png",
  ".jpg": "image/jpeg",
  ".jpeg": "image/jpeg",
  ".gif": "image/gif",
  ".webp": "image/webp",
  ".avif": "image/avif",
  ".ico": "image/x-icon",
  ".woff": "font/woff",
  ".woff2": "font/woff2",
  ".ttf": "font/ttf",
  ".otf": "font/otf",
  ".wasm": "application/wasm",
  ".pdf": "application/pdf",
  ".mp3": "audio/mpeg",
  ".ogg": "audio/ogg",
  ".wav": "audio/wav",
  ".mp4": "video/mp4",
  ".webm": "video/webm",
  ".zip": "application/zip",
  ".gz": "application/gzip",
};

/** Serves the files of a folder. */
export function staticFiles(folder: string): HttpHandler {
  return async (exchange) => {
    const { method, target } = exchange.request;
    if (method !== "GET" && method !== "HEAD") {
      return respondText(exchange, 405, "This site is read-only.", [["allow", "GET, HEAD"]]);
    }
    const [path = ""] = target.split("?");
    const names = namesOf(path);
    if (names === undefined) return notFound(exchange);
    const found = await find(folder, names);
    if (found === undefined) return notFound(exchange);
    if (found.kind === "folder") {
      // Without the trailing slash a page's relative links would break. "//" would lead to another host.
      const query = target.slice(path.length);
      const location = `/${names.map(encodeURIComponent).join("/")}/${query}`;
      return respondText(exchange, 308, "This is a folder.", [["location", location]]);
    }
    await send(exchange, found.file, found.path);
  };
}

function notFound(exchange: Exchange): void {
  respondText(exchange, 404, "There is nothing here.");
}

/** The segments of a path; undefined if one of them must not be served. */
function namesOf(path: string): string[] | undefined {
  const names: string[] = [];
  for (const part of path.split("/")) {
    let name: string;
    try {
      name = decodeURIComponent(part);
    } catch {
      return undefined;
    }
    if (name === "") continue;
    // ".." and "." are among those that begin with a dot.
    if (name.startsWith(".") || /[\0/\\:]/.test(name)) return undefined;
    names.push(name);
  }
  if (path.endsWith("/")) names.push("");
  return names;
}

type Found =
  | { readonly kind: "file"; readonly file: FileHandle; readonly path: string }
  | { readonly kind: "folder" };

async function find(folder: string, names: readonly string[]): Promise<Found | undefined> {
  try {
    const root = await realpath(folder);
    const asked = names.at(-1) === "" ? [...names.slice(0, -1), "index.html"] : names;
    // A symbolic link that leads out of the folder isn't followed.
    const path = await realpath(join(root, ...asked));
    if (path !== root && !path.startsWith(root.endsWith(sep) ? root : root + sep)) return undefined;
    if (path.slice(root.length).split(sep).some((name) => name.startsWith("."))) return undefined;
    const facts = await stat(path);
    if (facts.isDirectory()) return { kind: "folder" };
    if (!facts.isFile()) return undefined;
    return { kind: "file", file: await open(path, "r"), path };
  } catch {
    return undefined;
  }
}

async function send(exchange: Exchange, file: FileHandle, path: string): Promise<void> {
  try {
    const { size, mtimeMs } = await file.stat();
    const { fields, method } = exchange.request;
    const etag = `"${size.toString(36)}-${Math.floor(mtimeMs).toString(36)}"`;
    const own: Field[] = [
      ["etag", etag],
      ["last-modified", new Date(mtimeMs).toUTCString()],
      ["accept-ranges", "bytes"],
      ["cache-control", "no-cache"],
      ["x-content-type-options", "nosniff"],
    ];
    if (isFresh(fields, etag, mtimeMs)) return head(exchange, 304, own);
    const type = TYPES[extname(path).toLowerCase()] ?? "application/octet-stream";
    const range = rangeOf(fields, size, etag);
    if (range === "wrong") {
      return head(exchange, 416, [["content-range", `bytes */${size}`], ["content-length", "0"]]);
    }
    const { start, end } = range ?? { start: 0, end: size };
    const whole: Field[] = [...own, ["content-type", type], ["content-length", String(end - start)]];
    if (range !== undefined) whole.push(["content-range", `bytes ${start}-${end - 1}/${size}`]);
    if (method === "HEAD") return head(exchange, range === undefined ? 200 : 206, whole);
    await pour(exchange, range === undefined ? 200 : 206, whole, file, start, end);
  } finally {
    await file.close();
  }
}

function head(exchange: Exchange, status: number, fields: readonly Field[]): void {
  exchange.stream.attach(IGNORE_STREAM);
  exchange.respond({ status, fields });
  exchange.stream.release();
}

async function pour(
  exchange: Exchange,
  status: number,
  fields: readonly Field[],
  file: FileHandle,
  start: number,
  end: number,
): Promise<void> {
  const { stream } = exchange;
  let gone = false;
  let drained = () => {};
  stream.attach({
    data() {},
    end() {},
    drain: () => drained(),
    close: () => {
      gone = true;
      drained();
    },
  });
  exchange.respond({ status, fields });
  for (let at = start; at < end && !gone;) {
    const buffer = new Uint8Array(Math.min(PIECE_BYTES, end - at));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
    // The file has been truncated: the announced length can't be met.
    if (bytesRead === 0) return stream.abort();
    at += bytesRead;
    if (!stream.write(buffer.subarray(0, bytesRead)) && !gone) {
      await new Promise<void>((resolve) => drained = resolve);
    }
  }
  stream.release();
}

/** RFC 9110 §13.2.2. */
function isFresh(fields: readonly Field[], etag: string, mtimeMs: number): boolean {
  const tags = fieldOf(fields, "if-none-match");
  if (tags !== undefined) {
    return tags.trim() === "*" || tags.split(",").some((tag) => tag.trim().replace(/^W\//, "") === etag);
  }
  const since = Date.parse(fieldOf(fields, "if-modified-since") ?? "");
  return !Number.isNaN(since) && Math.floor(mtimeMs / 1000) * 1000 <= since;
}

/** One range; several ranges, or invalid ones, are answered with the whole file (RFC 9110 §14.2). */
function rangeOf(
  fields: readonly Field[],
  size: number,
  etag: string,
): { readonly start: number; readonly end: number } | "wrong" | undefined {
  const text = fieldOf(fields, "range");
  const condition = fieldOf(fields, "if-range");
  if (text === undefined || (condition !== undefined && condition !== etag)) return undefined;
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(text.trim());
  if (match === null) return undefined;
  const [, first = "", last = ""] = match;
  if (first === "" && last === "") return undefined;
  const start = first === "" ? Math.max(0, size - Number(last)) : Number(first);
  const end = first === "" || last === "" ? size : Math.min(size, Number(last) + 1);
  if (first !== "" && last !== "" && Number(last) < Number(first)) return undefined;
  return start >= size || start >= end ? "wrong" : { start, end };
}
