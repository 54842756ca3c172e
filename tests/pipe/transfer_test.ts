import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { loadSodium, makeKeyPair } from "../../src/crypto/sodium.ts";
import { errorCode, SallyportError } from "../../src/errors.ts";
import { type ReceiveOptions, receivePipe } from "../../src/pipe/receive.ts";
import { type SendOptions, sendPipe } from "../../src/pipe/send.ts";
import type { PipeSink, SinkHost } from "../../src/pipe/sink.ts";
import type { ByteSource } from "../../src/pipe/source.ts";
import { createMemoryNetwork } from "../../src/runtime/memory/memory.ts";
import type { Conn } from "../../src/runtime/port.ts";
import { concat } from "./bench.ts";
import { PIPE_FAILURES_PER_MINUTE_MAX } from "../../src/pipe/gate.ts";
import { PIPE_PENDING_MAX } from "../../src/pipe/receive.ts";

const sodium = await loadSodium();
const keys = makeKeyPair(sodium);
const RECEIVER = "10.0.0.1";
const SENDER = "10.0.0.2";
const PORT = 1234;
const body = (size: number): Bytes => Uint8Array.from({ length: size }, (_, at) => at * 31 & 255);

/** A sink in memory. `writeMs` undefined: it stores when told to. */
class MemorySink implements PipeSink {
  readonly name = "memory";
  readonly chunks: Bytes[] = [];
  state: "open" | "finished" | "discarded" = "open";
  failAt = Infinity;
  #size = 0;
  host!: SinkHost;

  constructor(readonly later: (run: () => void) => void) {}

  write(chunk: Bytes): void {
    this.chunks.push(chunk.slice());
    this.#size += chunk.length;
    const { length } = chunk;
    const full = this.#size > this.failAt;
    this.later(() => {
      if (full) {
        this.host.failed(new SallyportError("config_invalid", "Cannot write: full", { side: "config" }));
      } else this.host.stored(length);
    });
  }

  finish(): Promise<void> {
    this.state = "finished";
    return Promise.resolve();
  }

  discard(): Promise<void> {
    this.state = "discarded";
    return Promise.resolve();
  }
}

/** A network with a receiver and what it needs; time is virtual. */
class World {
  readonly network = createMemoryNetwork();
  readonly sink: MemorySink;
  readonly claimed = new Set<string>();
  readonly said: string[] = [];
  readonly result: Promise<{ bytes: number; certain: boolean } | SallyportError>;
  readonly stop = new AbortController();

  constructor(options: Partial<ReceiveOptions> = {}, writeMs = 0) {
    const { clock } = this.network;
    this.sink = new MemorySink((run) => void clock.after(writeMs, run));
    this.result = receivePipe({
      runtime: this.network.runtime(RECEIVER),
      listen: { host: RECEIVER, port: PORT },
      ...{ sodium, keys, login: "name", passphrase: "secret", signal: this.stop.signal },
      claim: (id) => !this.claimed.has(String(id)) && this.claimed.add(String(id)) !== undefined,
      sink: (host) => Promise.resolve((this.sink.host = host, this.sink)),
      accepted: (from) => void this.said.push(`accepted ${from.host}`),
      refused: (from, error, limited) =>
        void this.said.push(`refused ${from.host} ${errorCode(error)}${limited ? " limited" : ""}`),
      ...options,
    }).catch((error) => error as SallyportError);
  }

  source(bytes: Bytes, failAt = Infinity, delayMs = 0): ByteSource & { closed: boolean } {
    let at = 0;
    const { clock } = this.network;
    return {
      closed: false,
      sizeBytes: bytes.length,
      read(into, done) {
        clock.after(delayMs, () => {
          if (at >= failAt) {
            return done(new SallyportError("config_invalid", "Cannot read: gone", { side: "config" }), 0);
          }
          const part = bytes.subarray(at, at + into.length);
          into.set(part);
          at += part.length;
          done(undefined, part.length);
        });
      },
      close() {
        this.closed = true;
      },
    };
  }

  send(source: ByteSource, options: Partial<SendOptions> = {}): Promise<string> {
    return sendPipe({
      runtime: this.network.runtime(SENDER),
      to: { host: RECEIVER, port: PORT },
      ...{ sodium, serverPublicKey: keys.publicKey, login: "name", passphrase: "secret", source },
      ...options,
    }).then(
      ({ bytes, extended }) => `sent ${bytes}${extended ? " extended" : ""}`,
      (error) => `failed ${errorCode(error)}: ${(error as Error).message}`,
    );
  }

  dial(handler: Partial<Parameters<Conn["attach"]>[0]> = {}): Promise<Conn> {
    return this.network.settle(
      this.network.runtime(SENDER).dial({ host: RECEIVER, port: PORT, timeoutMs: 1000 }).then((conn) => {
        conn.attach({ data() {}, end() {}, drain() {}, close() {}, ...handler });
        return conn;
      }),
    );
  }
}

describe("sendPipe and receivePipe", () => {
  for (const extended of [true, false]) {
    for (const size of [0, 1, 131_070, 131_071, 2_500_000]) {
      it(`carries ${size} bytes${extended ? "" : ", as the C programs do"}`, async () => {
        const world = new World({}, 3);
        const source = world.source(body(size));
        const sent = await world.network.settle(world.send(source, { extended }));
        const received = await world.network.settle(world.result);
        assert.equal(sent, `sent ${size}${extended ? " extended" : ""}`);
        assert.deepEqual(received, { bytes: size, certain: extended });
        assert.ok(Buffer.from(concat(world.sink.chunks)).equals(body(size)));
        assert.equal(world.sink.state, "finished");
        assert.equal(source.closed, true);
      });
    }
  }

  it("outlasts an hour of silence of the source: both sides ping", async () => {
    const world = new World();
    const sent = await world.network.settle(world.send(world.source(body(10), Infinity, 3_600_000)));
    assert.equal(sent, "sent 10 extended");
    assert.deepEqual(await world.network.settle(world.result), { bytes: 10, certain: true });
  });

  it("refuses a wrong passphrase and a wrong key without an answer, and goes on listening", async () => {
    const world = new World();
    const wrong = await world.network.settle(world.send(world.source(body(10)), { passphrase: "guess" }));
    assert.match(wrong, /^failed credential_refused: The receiver closed without an answer/);
    const other = makeKeyPair(sodium).publicKey;
    assert.match(
      await world.network.settle(world.send(world.source(body(10)), { serverPublicKey: other })),
      /^failed credential_refused/,
    );
    assert.equal(await world.network.settle(world.send(world.source(body(10)))), "sent 10 extended");
    assert.deepEqual(world.said, [
      `refused ${SENDER} credential_refused`,
      `refused ${SENDER} cipher_failed`,
      `accepted ${SENDER}`,
    ]);
  });

  it("drops a source unread that has guessed too often, for a minute", async () => {
    const world = new World();
    const guess = () => world.network.settle(world.send(world.source(body(1)), { passphrase: "guess" }));
    for (let count = 0; count < PIPE_FAILURES_PER_MINUTE_MAX; count++) await guess();
    assert.equal(world.said.at(-1), `refused ${SENDER} credential_refused limited`);
    const { length } = world.said;
    assert.match(await guess(), /^failed/);
    assert.match(
      await world.network.settle(world.send(world.source(body(1)))),
      /^failed/,
      "the right one too",
    );
    assert.equal(world.said.length, length);
    await world.network.advance(60_000);
    assert.equal(await world.network.settle(world.send(world.source(body(1)))), "sent 1 extended");
  });

  it("takes one transfer, and refuses a second one beside it", async () => {
    const world = new World();
    const first = world.send(world.source(body(10), Infinity, 1000));
    await world.network.advance(500);
    assert.match(
      await world.network.settle(world.send(world.source(body(10)))),
      /^failed credential_refused/,
    );
    assert.equal(world.said.at(-1), `refused ${SENDER} session_refused`);
    assert.equal(await world.network.settle(first), "sent 10 extended");
  });

  it("closes a silent connection after 10 s, and limits how many wait", async () => {
    const world = new World();
    const closed: boolean[] = [];
    for (let index = 0; index <= PIPE_PENDING_MAX; index++) {
      await world.dial({ close: () => void (closed[index] = true) });
    }
    await world.network.advance(1000);
    assert.deepEqual(Object.keys(closed), [String(PIPE_PENDING_MAX)]);
    await world.network.advance(10_000);
    assert.equal(closed.filter(Boolean).length, PIPE_PENDING_MAX + 1);
    assert.equal(world.said.filter((line) => line.endsWith("deadline_exceeded")).length, PIPE_PENDING_MAX);
    assert.equal(await world.network.settle(world.send(world.source(body(1)))), "sent 1 extended");
  });

  it("says why the sink failed, to both sides, and keeps nothing", async () => {
    const world = new World();
    world.sink.failAt = 500_000;
    const sent = await world.network.settle(world.send(world.source(body(2_500_000))));
    assert.equal(sent, "failed aborted: The other side gave up: Cannot write: full");
    const error = await world.network.settle(world.result);
    assert.equal(errorCode(error), "config_invalid");
    assert.equal(world.sink.state, "discarded");
  });

  it("says why the source failed, to both sides, and keeps nothing", async () => {
    const world = new World();
    const sent = await world.network.settle(world.send(world.source(body(2_500_000), 1_000_000)));
    assert.equal(sent, "failed config_invalid: Cannot read: gone");
    const error = await world.network.settle(world.result) as SallyportError;
    assert.equal(error.message, "The other side gave up: Cannot read: gone");
    assert.equal(world.sink.state, "discarded");
  });

  it("an interrupted sender is no end", async () => {
    for (const extended of [true, false]) {
      const world = new World();
      const controller = new AbortController();
      const sent = world.send(world.source(body(2_000_000), Infinity, 1000), {
        signal: controller.signal,
        extended,
      });
      await world.network.advance(1500);
      controller.abort();
      assert.match(await world.network.settle(sent), /^failed aborted: The transfer was interrupted/);
      const code = extended ? "aborted" : "connection_lost";
      assert.equal(errorCode(await world.network.settle(world.result)), code);
      assert.equal(world.sink.state, "discarded");
    }
  });

  it("an interrupted receiver tells the sender, and keeps nothing", async () => {
    const world = new World();
    const sent = world.send(world.source(body(2_000_000), Infinity, 1000));
    await world.network.advance(1500);
    world.stop.abort();
    assert.match(await world.network.settle(sent), /gave up: The transfer was interrupted$/);
    assert.equal(errorCode(await world.network.settle(world.result)), "aborted");
    assert.equal(world.sink.state, "discarded");
    const idle = new World();
    await idle.network.advance(10);
    idle.stop.abort();
    assert.equal(errorCode(await idle.network.settle(idle.result)), "aborted");
    assert.equal(idle.sink.state, "discarded");
  });

  it("a connection that is reset fails both sides", async () => {
    const world = new World();
    const sent = world.send(world.source(body(2_000_000), Infinity, 1000));
    await world.network.advance(1500);
    world.network.reset(RECEIVER, SENDER);
    assert.match(await world.network.settle(sent), /^failed connection_lost/);
    assert.equal(errorCode(await world.network.settle(world.result)), "connection_lost");
    assert.equal(world.sink.state, "discarded");
  });

  it("a network that is cut is found out by silence", async () => {
    const world = new World();
    const sent = world.send(world.source(body(2_000_000), Infinity, 1000));
    await world.network.advance(1500);
    world.network.cut(RECEIVER, SENDER);
    const start = world.network.clock.nowMs();
    assert.match(await world.network.settle(sent), /^failed session_idle/);
    assert.equal(errorCode(await world.network.settle(world.result)), "session_idle");
    assert.ok(world.network.clock.nowMs() - start <= 185_000);
  });

  it("dials nothing with settings that can't be used", async () => {
    const world = new World();
    const sent = await world.network.settle(world.send(world.source(body(1)), { login: "x".repeat(129) }));
    assert.match(sent, /^failed config_invalid: Cannot use the login/);
    const bad = new World({ passphrase: "a\0b" });
    assert.equal(errorCode(await bad.network.settle(bad.result)), "config_invalid");
  });

  it("fails when nobody listens", async () => {
    const world = new World();
    const sent = await world.network.settle(
      world.send(world.source(body(1)), { to: { host: RECEIVER, port: 1 } }),
    );
    assert.match(sent, /^failed connection_refused/);
  });

  it("a session recorded on the way and played again is refused", async () => {
    const world = new World();
    const recorded: Bytes[] = [];
    const proxy = await world.network.settle(
      world.network.runtime("10.0.0.3").listen({
        host: "10.0.0.3",
        port: PORT,
        accept(conn) {
          const waiting: Bytes[] = [];
          let onward: Conn | undefined;
          conn.attach({
            data: (chunk) => {
              recorded.push(chunk.slice());
              if (onward) onward.write(chunk);
              else waiting.push(chunk.slice());
            },
            end: () => onward?.closeWrite(),
            drain() {},
            close() {},
          });
          void world.network.runtime("10.0.0.3").dial({ host: RECEIVER, port: PORT, timeoutMs: 1000 }).then(
            (to) => {
              onward = to;
              to.attach({
                data: (chunk) => void conn.write(chunk),
                end: () => conn.closeWrite(),
                drain() {},
                close() {},
              });
              for (const chunk of waiting) to.write(chunk);
            },
          );
        },
      }),
    );
    assert.equal(
      await world.network.settle(
        world.send(world.source(body(1000)), { to: proxy.address, extended: false }),
      ),
      "sent 1000",
    );
    const again = new World({ claim: (id) => !world.claimed.has(String(id)) });
    let answered = 0;
    let closed = false;
    const conn = await again.dial({
      data: (chunk) => void (answered += chunk.length),
      close: () => void (closed = true),
    });
    for (const chunk of recorded) conn.write(chunk);
    await again.network.advance(100);
    assert.deepEqual(again.said, [`refused ${SENDER} key_reused`]);
    assert.equal(answered, 0);
    assert.equal(closed, true);
    assert.equal(again.sink.chunks.length, 0);
  });
});
