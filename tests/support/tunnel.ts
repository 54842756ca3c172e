/**
 * An edge in the network in memory, with agents and visitors around it: what the tests of edge, agent and transport
 * stand on. Time is virtual, and everything that is logged and counted can be looked at.
 *
 * @module
 */

import assert from "node:assert/strict";
import { concat as concatAll } from "../../src/bytes/bytes.ts";
import { FernetRing } from "../../src/crypto/fernet.ts";
import { createEdge, type Edge, type EdgeListenOptions, type EdgeOptions } from "../../src/edge/edge.ts";
import type { ErrorCode, SallyportError } from "../../src/errors.ts";
import { type CreatedToken, createToken, type TokenRequest } from "../../src/protocol/token/token.ts";
import { SendScratch } from "../../src/protocol/mux/snitun/sender.ts";
import {
  createMemoryNetwork,
  type MemoryNetwork,
  type MemoryNetworkOptions,
} from "../../src/runtime/memory/memory.ts";
import type { Bytes, ByteStream, ByteStreamHandler, Conn, Runtime } from "../../src/runtime/port.ts";
import type { LogFields, Logger, LogLevel } from "../../src/telemetry/log.ts";
import type { Session, SessionHandler, SessionStream } from "../../src/transport/port.ts";
import { dialSnitun, type DialSnitunOptions } from "../../src/transport/snitun/dial.ts";
import { decodeAlert } from "../../src/wire/tls/tls_alert.ts";
import { Watched } from "../conformance/runtime_helpers.ts";
import { parsePrometheus, sampleValue } from "../telemetry/prometheus.ts";
import { clientHello } from "./client_hello.ts";
// Dialers load these when they first dial. That takes real time, for which virtual time doesn't wait.
import "../../src/transport/curve/dial.ts";
import "../../src/transport/quic/dial.ts";
import { loadSodium } from "../../src/crypto/sodium.ts";

await loadSodium();

export const FERNET_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
export const EDGE_HOST = "10.0.0.1";
export const AGENT_HOST = "10.0.0.2";
export const VISITOR_HOST = "198.51.100.7";
export const EDGE_PORT = 8443;

/** A log line as it was given to the logger: nothing has been redacted. */
export interface LogLine {
  readonly level: Exclude<LogLevel, "silent">;
  readonly fields: LogFields;
  readonly message: string;
}

/** A logger that keeps its lines as they are. */
export function recordingLogger(lines: LogLine[], more: LogFields = {}): Logger {
  const at = (level: LogLine["level"]) => (fields: LogFields, message: string) =>
    void lines.push({ level, fields: { ...more, ...fields }, message });
  return {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    child: (fields) => recordingLogger(lines, { ...more, ...fields }),
  };
}

/** A stream of a session, watched as a connection is. */
export class WatchedStream extends Watched {
  readonly stream: SessionStream;

  constructor(stream: SessionStream) {
    super(stream as ByteStream as Conn);
    this.stream = stream;
  }
}

/** What holds a session at its agent's end: it watches every stream that comes. */
export class TestAgent implements SessionHandler {
  session!: Session;
  readonly token: CreatedToken;
  readonly streams: WatchedStream[] = [];
  endedWith: SallyportError | undefined;
  onStream: (stream: WatchedStream) => void = () => {};

  constructor(token: CreatedToken) {
    this.token = token;
  }
  stream(stream: SessionStream): void {
    const watched = new WatchedStream(stream);
    this.streams.push(watched);
    this.onStream(watched);
  }
  streamClosed(): void {}
  streamRefused(): void {}
  ended(error: SallyportError): void {
    assert.equal(this.endedWith, undefined, "a session ends once");
    this.endedWith = error;
  }
}

/** What {@link TestEdge.start} takes. */
export interface TestEdgeOptions extends Partial<Omit<EdgeOptions, "runtime">> {
  readonly network?: MemoryNetworkOptions;
  readonly listen?: readonly EdgeListenOptions[];
}

/** What a test sets of an agent's dial; `from` is the agent's host. */
export type DialMore = Partial<DialSnitunOptions> & { readonly from?: string };

/** An edge and the world around it. */
export class TestEdge {
  readonly network: MemoryNetwork;
  readonly ring: FernetRing;
  readonly edge: Edge;
  readonly lines: LogLine[] = [];
  readonly #tokens: CreatedToken[] = [];

  private constructor(options: TestEdgeOptions) {
    const { network, listen: _, ...edge } = options;
    this.network = createMemoryNetwork({ seed: 7, ...network });
    this.ring = options.ring ?? new FernetRing([FERNET_KEY]);
    this.edge = createEdge({
      runtime: this.network.runtime(EDGE_HOST),
      log: recordingLogger(this.lines),
      ...edge,
      ring: this.ring,
    });
  }

  static async start(options: TestEdgeOptions = {}): Promise<TestEdge> {
    const test = new TestEdge(options);
    for (const listen of options.listen ?? [{ host: "0.0.0.0", port: EDGE_PORT }]) {
      await test.edge.listen(listen);
    }
    return test;
  }

  runtime(host: string): Runtime {
    return this.network.runtime(host);
  }

  /** A token for `a.test`, an hour long, unless asked otherwise. */
  token(request: Partial<TokenRequest> = {}): CreatedToken {
    const created = createToken(this.ring, {
      hostname: "a.test",
      nowMs: this.network.clock.wallMs(),
      ...(request.valid === undefined ? { ttlSeconds: 3600 } : {}),
      ...request,
    } as TokenRequest);
    this.#tokens.push(created);
    return created;
  }

  /** Opens a session as an agent would; rejects as dialSnitun does. */
  async connect(
    token: CreatedToken | Partial<TokenRequest> = {},
    more: DialMore = {},
  ): Promise<TestAgent> {
    const { agent, dialled } = this.begin("claims" in token ? token : this.token(token), more);
    await this.network.settle(dialled);
    // The answer to the challenge still has to reach the edge.
    await this.network.advance(10);
    return agent;
  }

  /** The same without letting time pass. */
  begin(token: CreatedToken, more: DialMore = {}): { agent: TestAgent; dialled: Promise<Session> } {
    const { from = AGENT_HOST, ...options } = more;
    const runtime = this.runtime(from);
    const agent = new TestAgent(token);
    const { aesKey, aesIv, cipher, protocolVersion } = token.claims;
    const dialled = dialSnitun({
      runtime,
      clock: runtime.clock,
      scratch: new SendScratch(),
      host: EDGE_HOST,
      port: EDGE_PORT,
      token: token.token,
      aesKey,
      aesIv,
      cipher,
      protocolVersion,
      admitted: (session) => {
        agent.session = session;
        return agent;
      },
      ...options,
    });
    return { agent, dialled };
  }

  /** Opens a connection to the edge and nothing more. */
  async dial(from = VISITOR_HOST, port = EDGE_PORT): Promise<Watched> {
    const dialled = this.runtime(from).dial({ host: EDGE_HOST, port, timeoutMs: 5_000 });
    return new Watched(await this.network.settle(dialled));
  }

  /** A visitor: its ClientHello, `more` right after it, and a moment for both to get through. */
  async visit(
    serverName = "a.test",
    options: { from?: string; port?: number; more?: Bytes; hello?: Bytes } = {},
  ): Promise<Visitor> {
    const conn = await this.dial(options.from, options.port);
    const hello = options.hello ?? helloFor(serverName);
    conn.write(concat(hello, options.more ?? new Uint8Array(0)));
    await this.network.advance(10);
    return { conn, hello };
  }

  advance(ms: number): Promise<void> {
    return this.network.advance(ms);
  }

  /** A metric's value. */
  async metric(name: string, labels: Record<string, string> = {}): Promise<number> {
    return sampleValue(parsePrometheus(await this.edge.metrics.render()), `sallyport_${name}`, labels);
  }

  /** How often something was refused for this reason. */
  refusals(what: "agent" | "visitor" | "connection" | "stream" | "port", reason: ErrorCode): Promise<number> {
    return this.metric("refusals_total", { what, reason });
  }

  /** The one line that names this reason. */
  logged(reason: ErrorCode): LogLine {
    const found = this.lines.filter((line) => line.fields.reason === reason);
    assert.equal(
      found.length,
      1,
      `${found.length} lines have reason ${reason}: ${JSON.stringify(this.lines)}`,
    );
    return found[0]!;
  }

  /** Fails where a log line holds a token, or key material of one. */
  assertNoSecretLogged(): void {
    const text = JSON.stringify(this.lines, (_key, value) => value instanceof Error ? String(value) : value);
    for (const { token, claims } of this.#tokens) {
      for (const secret of [token, token.slice(20, 60), claims.aesKey.toHex(), claims.aesIv.toHex()]) {
        assert.ok(!text.includes(secret), "a secret stands in the log");
      }
    }
  }

  /**
   * Closes the edge and fails where a timer outlives it by more than `withinMs`: what is left behind at the end of a
   * test is a leak in a process that runs for years.
   */
  async assertNothingLeft(withinMs = 6_000): Promise<void> {
    await this.network.settle(this.edge.close(0));
    const closedMs = this.network.clock.nowMs();
    await this.network.runUntilIdle();
    const lateMs = this.network.clock.nowMs() - closedMs;
    assert.ok(lateMs <= withinMs, `something still happened ${lateMs} ms after everything was closed`);
    assert.equal(await this.metric("streams"), 0);
    assert.equal(this.edge.sessions, 0);
    assert.equal(this.runtime(EDGE_HOST).memory.heldBytes, 0, "bytes are counted that nobody holds");
  }
}

/** A visitor's connection and the ClientHello that it sent. */
export interface Visitor {
  readonly conn: Watched;
  readonly hello: Bytes;
}

export function helloFor(serverName: string): Bytes {
  return new Uint8Array(clientHello(serverName));
}

export function concat(...parts: readonly Uint8Array[]): Bytes {
  return concatAll(parts);
}

/** All that came, in order. */
export function bytesFrom(watched: Watched): Bytes {
  return concatAll(watched.chunks);
}

/** Fails unless a TLS alert and the end came, and nothing else. */
export function assertAlert(conn: Watched, description: number): void {
  assert.equal(decodeAlert(bytesFrom(conn)), description);
  assert.equal(conn.ended, true, "the connection ends after the alert");
}

/** Fails unless the connection ended without a byte. */
export function assertSilentEnd(conn: Watched): void {
  assert.equal(conn.byteLength, 0);
  assert.ok(conn.ended || conn.closes > 0, "the connection is over");
}

/** A handler that wants nothing. */
export const NOTHING: ByteStreamHandler = { data() {}, end() {}, drain() {}, close() {} };
