/**
 * Run as a process of its own, with a port: a server behind an agent. It passes over a ClientHello, and sends back what
 * follows.
 *
 * @module
 */
import { createServer } from "node:net";
import process from "node:process";
import { recordLength } from "../support/client_hello.ts";

const server = createServer({ allowHalfOpen: true }, (socket) => {
  let head: Buffer<ArrayBufferLike> | undefined = Buffer.alloc(0);
  socket.on("error", () => {});
  socket.on("end", () => socket.end());
  socket.on("drain", () => socket.resume());
  socket.on("data", (chunk: Buffer<ArrayBufferLike>) => {
    let rest = chunk;
    if (head !== undefined) {
      head = Buffer.concat([head, chunk]);
      const length = recordLength(head);
      if (length === 0) return;
      rest = head.subarray(length);
      head = undefined;
    }
    if (rest.length > 0 && !socket.write(rest)) socket.pause();
  });
});
server.listen(Number(process.argv[2]), "127.0.0.1", () => console.log("endpoint is up"));
