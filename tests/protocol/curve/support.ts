/** A client and a server in the virtual network, and what flows between them. */
import { createHash } from "node:crypto";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import { type ErrorCode, errorCode, type SallyportError } from "../../../src/errors.ts";
import type { CurveConnection } from "../../../src/protocol/curve/connection.ts";
import { type KeyPair, keyPair, loadSodium, type Sodium } from "../../../src/crypto/sodium.ts";
import {
  connectCurve,
  type CurveSocketOptions,
  type DialledConnection,
} from "../../../src/transport/curve/socket_dialer.ts";
import {
  bindCurve,
  type BindCurveOptions,
  type CurveListener,
} from "../../../src/transport/curve/socket_listener.ts";
import type { CurveOptions } from "../../../src/protocol/curve/options.ts";
import type { OwnedStream } from "../../../src/protocol/curve/streams/stream.ts";
import type { ByteStreamHandler } from "../../../src/runtime/port.ts";
import { VirtualNetwork } from "./sim.ts";
import { seededSource } from "../../support/seeded.ts";

export const SERVER = { host: "192.0.2.1", port: 4500 };
export const CLIENT_HOST = "10.0.0.2";
export const text = (value: string): Bytes => new TextEncoder().encode(value);

/** A server that admits the credential "token" and keeps what happens. */
export class TestServer {
  listener!: CurveListener;
  readonly connections: CurveConnection[] = [];
  readonly streams: OwnedStream[] = [];
  readonly credentials: string[] = [];
  readonly closed: ErrorCode[] = [];
  readonly streamsClosed: number[] = [];
  onStream: (stream: OwnedStream) => void = (stream) => stream.attach(sink());
  refusal: SallyportError | undefined;
}

/** A handler that drops what comes. */
export function sink(handler: Partial<ByteStreamHandler> = {}): ByteStreamHandler {
  return { data: () => {}, end: () => {}, drain: () => {}, close: () => {}, ...handler };
}

export async function cryptoForTests(): Promise<Sodium> {
  return await loadSodium();
}

export async function startServer(
  net: VirtualNetwork,
  crypto: Sodium,
  more: Partial<BindCurveOptions> & { keys?: KeyPair } = {},
  address = SERVER,
): Promise<TestServer> {
  const server = new TestServer();
  const secret = new Uint8Array(32);
  seededSource(99).fill(secret);
  server.listener = await bindCurve({
    runtime: net.runtime(address.host),
    ...address,
    crypto,
    keys: keyPair(crypto, secret),
    random: seededSource(5),
    accept: (connection) => {
      server.connections.push(connection);
      return {
        introduced: (bytes) => {
          const credential = new TextDecoder().decode(bytes);
          server.credentials.push(credential.slice(0, 20));
          if (server.refusal !== undefined) connection.close(server.refusal);
          else connection.admit(text("welcome"));
        },
        stream: (stream) => {
          server.streams.push(stream);
          server.onStream(stream);
        },
        streamClosed: (stream) => void server.streamsClosed.push(stream.id),
        closed: (error) => void server.closed.push(errorCode(error)),
      };
    },
    ...more,
  });
  return server;
}

/** What a client hears. */
export class TestClient {
  link!: DialledConnection;
  readonly streams: OwnedStream[] = [];
  readonly closed: SallyportError[] = [];
  proved: Bytes | undefined;
  onStream: (stream: OwnedStream) => void = (stream) => stream.attach(sink());
}

let clients = 0;

/** Dials and waits in virtual time; rejects as the dial does. */
export async function connect(
  net: VirtualNetwork,
  crypto: Sodium,
  more: Partial<CurveSocketOptions> = {},
  host = CLIENT_HOST,
  client = new TestClient(),
): Promise<TestClient> {
  let failure: unknown;
  let done = false;
  connectCurve({
    runtime: net.runtime(host),
    server: SERVER,
    crypto,
    credential: text("token"),
    random: seededSource(1_000 + clients++),
    serverProved: (key) => void (client.proved = key),
    admitted: () => ({
      stream: (stream) => {
        client.streams.push(stream);
        client.onStream(stream);
      },
      streamClosed: () => {},
      closed: (error) => void client.closed.push(error),
    }),
    ...more,
  }).then((link) => {
    client.link = link;
    done = true;
  }, (error) => {
    failure = error;
    done = true;
  });
  if (!await net.clock.settle(() => done, 60_000)) throw new Error("the dial hangs");
  if (failure !== undefined) throw failure;
  return client;
}

/** Writes all of `data` with back-pressure, then ends. */
export function pour(stream: OwnedStream, data: Bytes, end = true): void {
  let at = 0;
  const on = () => {
    while (at < data.length) {
      const chunk = data.subarray(at, at + 16_384);
      at += chunk.length;
      if (!stream.write(chunk)) return;
    }
    if (end) stream.closeWrite();
  };
  stream.attach(sink({ drain: on }));
  on();
}

/** Collects what comes: size, digest, end. */
export class Collector implements ByteStreamHandler {
  size = 0;
  ended = false;
  closed = false;
  error: Error | undefined;
  readonly #hash = createHash("sha256");
  data(chunk: Bytes): void {
    this.size += chunk.length;
    this.#hash.update(chunk);
  }
  end(): void {
    this.ended = true;
  }
  drain(): void {}
  close(error?: Error): void {
    this.closed = true;
    this.error = error;
  }
  digest(): string {
    return this.#hash.digest("hex");
  }
}

export function digest(data: Bytes): string {
  return createHash("sha256").update(data).digest("hex");
}

export function world(): VirtualNetwork {
  return new VirtualNetwork();
}

export type { CurveOptions };
