/**
 * Visitors and an endpoint that exchange plain bytes behind a real ClientHello, and can tell by hash that every byte came
 * through in order. A visitor names its connection, so that a test gets hold of both ends of one stream.
 *
 * @module
 */

import { createHash, type Hash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { clientHello, recordLength } from "./client_hello.ts";

const NAME_BYTES = 16;
const BLOCK_BYTES = 64 * 1024;

interface Expectation {
  readonly bytes: number;
  readonly resolve: (sha256: string) => void;
  readonly reject: (error: Error) => void;
}

/** One end of a connection. */
export class PlainPeer {
  readonly socket: Socket;
  #queue: Buffer[] = [];
  #queuedBytes = 0;
  #ended = false;
  #error: Error | undefined;
  #expectation: (Expectation & { hash: Hash; left: number }) | undefined;
  readonly #closed: Promise<void>;

  /** `early` are bytes that were read from the socket before. */
  constructor(socket: Socket, early?: Buffer) {
    this.socket = socket;
    if (early !== undefined && early.length > 0) this.#take(early);
    socket.on("data", (chunk: Buffer) => this.#take(chunk));
    socket.on("end", () => this.#over());
    socket.on("error", (error) => {
      this.#error = error;
      this.#over();
    });
    this.#closed = new Promise((resolve) => {
      socket.on("close", () => {
        this.#over();
        resolve();
      });
    });
  }

  /** Resolves with the SHA-256 of the next `bytes` bytes; rejects when the peer ends before. One at a time. */
  receive(bytes: number): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#expectation = { bytes, resolve, reject, hash: createHash("sha256"), left: bytes };
      const waiting = this.#queue;
      this.#queue = [];
      this.#queuedBytes = 0;
      for (const chunk of waiting) this.#take(chunk);
      if (this.#ended) this.#over();
    });
  }

  /** Sends `bytes` bytes that `seed` determines and resolves with their SHA-256 once the socket has taken them. */
  async send(bytes: number, seed: number): Promise<string> {
    const hash = createHash("sha256");
    for (let at = 0; at < bytes; at += BLOCK_BYTES) {
      const block = patternBlock(seed, at, Math.min(BLOCK_BYTES, bytes - at));
      hash.update(block);
      if (!this.socket.write(block)) await this.#drained();
    }
    return hash.digest("hex");
  }

  /** Bytes that came and that nobody has asked for. */
  get unreadBytes(): number {
    return this.#queuedBytes;
  }

  /** Resolves when the connection is over, in whatever way. */
  closed(): Promise<void> {
    return this.#closed;
  }

  /** Resolves when the peer has ended its direction. */
  async ended(): Promise<void> {
    if (!this.#ended) await Promise.race([once(this.socket, "end"), this.#closed]);
  }

  #drained(): Promise<void> {
    if (this.socket.destroyed) {
      return Promise.reject(this.#error ?? new Error("Cannot send: the socket is closed"));
    }
    return new Promise((resolve, reject) => {
      const done = (): void => {
        this.socket.off("drain", done);
        this.socket.off("close", failed);
        resolve();
      };
      const failed = (): void => {
        this.socket.off("drain", done);
        reject(this.#error ?? new Error("Cannot send: the peer closed"));
      };
      this.socket.on("drain", done);
      this.socket.on("close", failed);
    });
  }

  #take(chunk: Buffer): void {
    const expectation = this.#expectation;
    if (expectation === undefined) {
      this.#queue.push(chunk);
      this.#queuedBytes += chunk.length;
      return;
    }
    const part = chunk.subarray(0, expectation.left);
    expectation.hash.update(part);
    expectation.left -= part.length;
    if (expectation.left > 0) return;
    this.#expectation = undefined;
    if (part.length < chunk.length) this.#take(chunk.subarray(part.length));
    expectation.resolve(expectation.hash.digest("hex"));
  }

  #over(): void {
    this.#ended = true;
    const expectation = this.#expectation;
    if (expectation === undefined) return;
    this.#expectation = undefined;
    const got = expectation.bytes - expectation.left;
    const why = this.#error === undefined ? "the peer ended" : this.#error.message;
    expectation.reject(new Error(`Cannot receive ${expectation.bytes} bytes: ${why} after ${got}`));
  }
}

/** An endpoint: accepts, skips the ClientHello and hands each connection to whoever waits for its name. */
export class PlainEndpoint {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #arrived = new Map<string, PlainPeer>();
  readonly #waiting = new Map<string, (peer: PlainPeer) => void>();

  private constructor() {
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#accept(socket));
  }

  /** Listens on a free port of 127.0.0.1. */
  static async start(): Promise<PlainEndpoint> {
    const endpoint = new PlainEndpoint();
    endpoint.#server.listen(0, "127.0.0.1");
    await once(endpoint.#server, "listening");
    return endpoint;
  }

  /** Where it listens. */
  get port(): number {
    return portOf(this.#server);
  }

  /** Connections that are open now. */
  get open(): number {
    return this.#sockets.size;
  }

  /** The endpoint's end of the connection that a visitor named so. */
  connection(name: string): Promise<PlainPeer> {
    const peer = this.#arrived.get(name);
    if (peer !== undefined) {
      this.#arrived.delete(name);
      return Promise.resolve(peer);
    }
    return new Promise((resolve) => this.#waiting.set(name, resolve));
  }

  /** Drops all connections and stops listening. */
  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    if (this.#server.listening) await once(this.#server, "close");
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
    socket.on("error", () => {});
    let head = Buffer.alloc(0);
    const read = (chunk: Buffer): void => {
      head = Buffer.concat([head, chunk]);
      const hello = recordLength(head);
      if (hello === 0 || head.length < hello + NAME_BYTES) return;
      socket.off("data", read);
      const name = head.toString("latin1", hello, hello + NAME_BYTES);
      const peer = new PlainPeer(socket, head.subarray(hello + NAME_BYTES));
      const waiting = this.#waiting.get(name);
      if (waiting === undefined) {
        this.#arrived.set(name, peer);
        return;
      }
      this.#waiting.delete(name);
      waiting(peer);
    };
    socket.on("data", read);
  }
}

/** Both ends of one stream through the tunnel. */
export interface Stream {
  readonly visitor: PlainPeer;
  readonly endpoint: PlainPeer;
}

/** Where a visitor dials and what it sends first. */
export interface VisitOptions {
  readonly host: string;
  readonly port: number;
  readonly serverName: string;
}

/** Opens a connection, sends a ClientHello and then `name` (16 characters), which {@link PlainEndpoint} looks for. */
export async function visit(
  options: VisitOptions,
  name = randomBytes(8).toString("hex"),
): Promise<PlainPeer> {
  const socket = connect({ host: options.host, port: options.port, allowHalfOpen: true, noDelay: true });
  await once(socket, "connect");
  const peer = new PlainPeer(socket);
  socket.write(Buffer.concat([clientHello(options.serverName), Buffer.from(name, "latin1")]));
  return peer;
}

/** A visitor and the endpoint's end of its stream; rejects when the tunnel closes the visitor's connection instead. */
export async function openStream(options: VisitOptions, endpoint: PlainEndpoint): Promise<Stream> {
  const name = randomBytes(8).toString("hex");
  const visitor = await visit(options, name);
  const refused = visitor.closed().then(() => {
    throw new Error(`Cannot reach the endpoint of ${options.serverName}: the edge closed the connection`);
  });
  refused.catch(() => {});
  return { visitor, endpoint: await Promise.race([endpoint.connection(name), refused]) };
}

/**
 * Ends a stream from the endpoint's side and waits until the visitor has heard of it. (A visitor's FIN alone may mean that
 * it still wants the answer, and SniTun has no word for that: an edge may wait for a while.)
 */
export async function hangUp(stream: Stream): Promise<void> {
  stream.endpoint.socket.destroy();
  await stream.visitor.ended();
  stream.visitor.socket.destroy();
}

/** The port a server listens on. */
export function portOf(server: Pick<Server, "address">): number {
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("Cannot tell the port: not listening");
  return address.port;
}

/** `length` bytes that depend on `seed` and on the place `at`, so that blocks can't change places unseen. */
function patternBlock(seed: number, at: number, length: number): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  const words = new Uint32Array(block.buffer, block.byteOffset, BLOCK_BYTES / 4);
  let state = (Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul(at / BLOCK_BYTES + 1, 0x85ebca6b)) >>> 0 || 1;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return block.subarray(0, length);
}

/** Whether a port of this machine accepts connections. */
export async function accepts(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  const accepted = await new Promise<boolean>((resolve) => {
    socket.once("connect", () => resolve(true));
    socket.once("error", () => resolve(false));
  });
  socket.destroy();
  return accepted;
}
