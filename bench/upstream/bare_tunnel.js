// Both: `bun bare_tunnel.js edge VISITORS AGENT` and `bun bare_tunnel.js agent AGENT ENDPOINT` (ports of this machine), or the same with
// `deno run -A`. The least that a tunnel does, on the runtime's own sockets: it accepts, opens a stream, dials and copies, and what one
// turn of the event loop brings leaves in one write. No encryption, names, limits, time-outs, back-pressure or half-close.
// `deno task bench --only visitors --peers bare-bun,bare-deno,rathole` shows the rate of new visitors, which no tunnel on the runtime
// can exceed.
import { setImmediate } from "node:timers";
import process from "node:process";

const HEADER_BYTES = 8;
const hostname = "127.0.0.1";
const isBun = "bun" in process.versions;
const [role, ...ports] = process.argv.slice(2);
const [near, far] = ports.map(Number);

const out = new Uint8Array(16 * 1024 * 1024);
let outLength = 0;
let flushing = false;
let session;
let partial = new Uint8Array(0);
/** Sockets by the number of their stream; null while it is being dialled. */
const sockets = new Map();
let lastNumber = 0;

if (isBun) startBun();
else startDeno();

/** Queues a frame; an empty one ends the stream. */
function send(number, payload) {
  const view = new DataView(out.buffer, outLength);
  view.setUint32(0, number);
  view.setUint32(4, payload.length);
  out.set(payload, outLength + HEADER_BYTES);
  outLength += HEADER_BYTES + payload.length;
  if (flushing) return;
  flushing = true;
  if (isBun) setImmediate(flushBun);
  else queueMicrotask(flushDeno);
}

/** Calls `frame` with the number and payload of each frame that is complete. */
function receive(chunk, frame) {
  let bytes = chunk;
  if (partial.length > 0) {
    bytes = new Uint8Array(partial.length + chunk.length);
    bytes.set(partial);
    bytes.set(chunk, partial.length);
  }
  let at = 0;
  while (bytes.length - at >= HEADER_BYTES) {
    const view = new DataView(bytes.buffer, bytes.byteOffset + at);
    const length = view.getUint32(4);
    if (bytes.length - at - HEADER_BYTES < length) break;
    frame(view.getUint32(0), bytes.subarray(at + HEADER_BYTES, at + HEADER_BYTES + length));
    at += HEADER_BYTES + length;
  }
  partial = bytes.slice(at);
}

/** Dials until the edge listens. */
async function untilOpen(dial) {
  for (;;) {
    try {
      return await dial();
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

function ended(number) {
  if (sockets.delete(number)) send(number, new Uint8Array(0));
}

function startBun() {
  const streamHandlers = {
    open(socket) {
      if (role === "edge") sockets.set(socket.data = ++lastNumber, socket);
      else {
        const { number, first } = socket.data;
        socket.data = number;
        if (!sockets.has(number)) return void socket.end();
        sockets.set(number, socket);
        socket.write(first);
      }
    },
    data: (socket, chunk) => send(socket.data, chunk),
    close: (socket) => ended(socket.data),
    error() {},
  };
  const sessionHandlers = {
    open: (socket) => void (session = socket),
    data: (_socket, chunk) => receive(chunk, frameBun),
    drain: flushBun,
  };
  if (role === "edge") {
    Bun.listen({ hostname, port: far, socket: sessionHandlers });
    Bun.listen({ hostname, port: near, socket: streamHandlers });
  } else untilOpen(() => Bun.connect({ hostname, port: near, socket: sessionHandlers }));

  function frameBun(number, payload) {
    const socket = sockets.get(number);
    if (payload.length === 0) {
      sockets.delete(number);
      socket?.end();
    } else if (socket !== undefined) socket?.write(payload);
    else if (role === "agent") {
      sockets.set(number, null);
      const data = { number, first: payload.slice() };
      Bun.connect({ hostname, port: far, data, socket: streamHandlers });
    }
  }
}

function flushBun() {
  flushing = false;
  if (session === undefined) return;
  const sent = session.write(out.subarray(0, outLength));
  out.copyWithin(0, sent, outLength);
  outLength -= sent;
}

async function startDeno() {
  if (role === "edge") {
    const sessions = Deno.listen({ hostname, port: far });
    acceptVisitors(Deno.listen({ hostname, port: near }));
    session = await sessions.accept();
  } else session = await untilOpen(() => Deno.connect({ hostname, port: near }));
  session.setNoDelay();
  const buffer = new Uint8Array(64 * 1024);
  for (;;) {
    const count = await session.read(buffer);
    if (count === null) return;
    receive(buffer.subarray(0, count), frameDeno);
  }
}

async function acceptVisitors(listener) {
  for (;;) {
    const socket = await listener.accept();
    sockets.set(++lastNumber, socket);
    copyDeno(lastNumber, socket);
  }
}

function frameDeno(number, payload) {
  const socket = sockets.get(number);
  if (payload.length === 0) {
    sockets.delete(number);
    socket?.close();
  } else if (socket !== undefined) socket?.write(payload.slice());
  else if (role === "agent") dialDeno(number, payload.slice());
}

async function dialDeno(number, first) {
  sockets.set(number, null);
  const socket = await Deno.connect({ hostname, port: far });
  if (!sockets.has(number)) return socket.close();
  sockets.set(number, socket);
  socket.write(first);
  copyDeno(number, socket);
}

async function copyDeno(number, socket) {
  const buffer = new Uint8Array(4096);
  try {
    for (let count; (count = await socket.read(buffer)) !== null;) send(number, buffer.subarray(0, count));
  } catch {
    // Closed by the other side of the tunnel.
  }
  if (!sockets.has(number)) return;
  ended(number);
  socket.close();
}

async function flushDeno() {
  if (session === undefined) return void (flushing = false);
  while (outLength > 0) {
    const bytes = out.slice(0, outLength);
    outLength = 0;
    for (let at = 0; at < bytes.length;) at += await session.write(bytes.subarray(at));
  }
  flushing = false;
}
