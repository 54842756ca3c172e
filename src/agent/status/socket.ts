/**
 * The local socket for querying a running agent: HTTP over a unix socket in the data folder, or over a named pipe on
 * Windows; accessible only to its owner.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { chmod, rm } from "node:fs/promises";
import { request, STATUS_CODES } from "node:http";
import { createServer, type Server, type Socket } from "node:net";
import { win32 } from "node:path";
import process from "node:process";
import { concat } from "../../bytes/bytes.ts";
import { errorMessage, SallyportError } from "../../errors.ts";
import type { StatusReport } from "./report.ts";

/** The socket's name in the data folder. */
export const STATUS_SOCKET = "agent.sock";
/** If a query isn't answered within this time, no agent is running. */
export const STATUS_TIMEOUT_MS = 5_000;
/** Larger than a report of a thousand services, each with its errors. */
const REPORT_MAX_BYTES = 8 * 1024 * 1024;
/** A query has no body and few header fields. */
const QUERY_MAX_LENGTH = 16 * 1024;

/** A running status socket. */
interface StatusSocket {
  close(): Promise<void>;
}

/**
 * The address of the socket at `path`. Node's sockets are named pipes on Windows, which aren't files: the name is
 * derived from the path, so that each data folder has its own.
 */
export function socketAddress(path: string, platform: string = process.platform): string {
  if (platform !== "win32") return path;
  // Windows takes file names in either case.
  const key = createHash("sha256").update(win32.resolve(path).toLowerCase()).digest("hex").slice(0, 32);
  return `\\\\.\\pipe\\sallyport-${key}`;
}

/**
 * Answers queries at `path`. A stale socket is replaced; if another agent answers there, rejects with `address_in_use`.
 */
export async function serveStatus(path: string, report: () => StatusReport): Promise<StatusSocket> {
  if (await readStatus(path).then(() => true, () => false)) {
    const why = "another agent answers there; give this one its own --data-dir";
    throw new SallyportError("address_in_use", `Cannot open status socket ${path}: ${why}`, {
      side: "config",
    });
  }
  const address = socketAddress(path);
  const isFile = address === path;
  if (isFile) await rm(path, { force: true });
  const open = new Set<Socket>();
  // Not by node:http: Bun's HTTP servers can't listen on a named pipe (oven-sh/bun#15350).
  const server = createServer((socket) => {
    open.add(socket);
    socket.once("close", () => open.delete(socket));
    answerQuery(socket, report);
  });
  await listening(server, address);
  // Only the owner may query it: names and visitors are private. Windows lets others only read from a pipe, so that they
  // can't send a request.
  if (isFile) await chmod(path, 0o600);
  return {
    async close(): Promise<void> {
      for (const socket of open) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
      if (isFile) await rm(path, { force: true });
    },
  };
}

/** Answers one HTTP request, then closes the connection. */
function answerQuery(socket: Socket, report: () => StatusReport): void {
  let head = "";
  socket.setTimeout(STATUS_TIMEOUT_MS, () => socket.destroy());
  socket.on("error", () => socket.destroy());
  socket.on("data", (part: Uint8Array) => {
    if (head.endsWith("\r\n\r\n")) return;
    head += String(part);
    if (head.length > QUERY_MAX_LENGTH) return void socket.destroy();
    if (!head.endsWith("\r\n\r\n")) return;
    const known = head.startsWith("GET /v1/status ");
    const status = known ? 200 : 404;
    const body = Buffer.from(known ? JSON.stringify(report()) : "");
    socket.write(
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\ncontent-type: application/json\r\n` +
        `content-length: ${body.length}\r\nconnection: close\r\n\r\n`,
    );
    socket.end(body);
  });
}

function listening(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause) => {
      const message = `Cannot open status socket ${path}: ${errorMessage(cause)}`;
      reject(new SallyportError("io_failed", message, { side: "local", cause }));
    });
    server.listen(path, resolve);
  });
}

/** Queries the agent at a socket. Rejects with `connection_refused` if there is none. */
export function readStatus(path: string): Promise<StatusReport> {
  return new Promise((resolve, reject) => {
    const fail = (cause: unknown) => {
      const why =
        /ENOENT|ECONNREFUSED|No such file|refused/i.test(`${(cause as { code?: string }).code} ${cause}`)
          ? "no agent runs with this data folder"
          : errorMessage(cause);
      const message = `Cannot ask agent at ${path}: ${why}`;
      reject(new SallyportError("connection_refused", message, { side: "local", retryable: true, cause }));
    };
    const asking = request(
      {
        socketPath: socketAddress(path),
        path: "/v1/status",
        headers: { host: "agent", connection: "close" },
        agent: false,
      },
      (answer) => {
        const parts: Uint8Array[] = [];
        let byteLength = 0;
        answer.on("data", (part: Uint8Array) => {
          byteLength += part.length;
          if (byteLength > REPORT_MAX_BYTES) asking.destroy(new Error("its answer is too long"));
          else parts.push(part);
        });
        answer.on("end", () => {
          try {
            resolve(JSON.parse(new TextDecoder().decode(concat(parts))) as StatusReport);
          } catch (error) {
            fail(error);
          }
        });
        answer.on("error", fail);
      },
    );
    const timer = setTimeout(() => {
      asking.destroy(new Error(`no answer in ${STATUS_TIMEOUT_MS / 1000} s`));
    }, STATUS_TIMEOUT_MS);
    asking.on("error", fail);
    asking.on("close", () => clearTimeout(timer));
    asking.end();
  });
}
