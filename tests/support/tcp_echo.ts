/**
 * An echo over TCP, and visitors of it, by sockets of the system.
 *
 * @module
 */
import assert from "node:assert/strict";
import { connect, createServer, type Server, type Socket } from "node:net";
import { pattern } from "../conformance/runtime_helpers.ts";

const PATIENCE_MS = 30_000;

/** Starts an echo that keeps half-close; `port` 0 takes any free one. */
export async function startEcho(
  host = "127.0.0.1",
  port = 0,
): Promise<{ readonly server: Server; readonly port: number }> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => {});
    socket.pipe(socket);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, resolve);
  });
  return { server, port: (server.address() as { port: number }).port };
}

/**
 * Sends `byteLength` bytes and then its end, and checks that the same bytes come back after that. Rejects when the
 * connection is refused or breaks.
 */
export function visitEcho(port: number, byteLength: number, host = "127.0.0.1", seed = 1): Promise<void> {
  return new Promise((resolve, reject) => {
    const sent = pattern(byteLength, seed);
    const received: Buffer[] = [];
    const socket: Socket = connect({ port, host, allowHalfOpen: true });
    const timer = setTimeout(() => {
      const bytes = received.reduce((sum, chunk) => sum + chunk.length, 0);
      socket.destroy(new Error(`${bytes} of ${byteLength} bytes came back in time`));
    }, PATIENCE_MS);
    socket.on("data", (chunk: Buffer) => void received.push(chunk));
    socket.on("error", (error) => (clearTimeout(timer), reject(error)));
    socket.on("end", () => {
      clearTimeout(timer);
      socket.destroy();
      try {
        const got = Buffer.concat(received);
        assert.equal(got.length, sent.length);
        assert.ok(got.equals(sent), "other bytes came back");
        resolve();
      } catch (error) {
        reject(error);
      }
    });
    socket.on("connect", () => socket.end(sent));
  });
}

/** Resolves when nothing takes connections at the port any more. */
export async function untilRefused(port: number, host = "127.0.0.1"): Promise<void> {
  const until = Date.now() + PATIENCE_MS;
  while (Date.now() < until) {
    const refused = await new Promise<boolean>((resolve) => {
      const socket = connect({ port, host });
      socket.on("connect", () => (socket.destroy(), resolve(false)));
      socket.on("error", () => resolve(true));
    });
    if (refused) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`Port ${port} still takes connections`);
}
