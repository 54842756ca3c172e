/** Transfers of version 1 at the sealed transport's listener, in the network in memory. */
import assert from "node:assert/strict";
import { transportsOf } from "../support/transports.ts";
import { describe, it } from "node:test";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { loadSodium, makeKeyPair } from "../../src/crypto/sodium.ts";
import { errorCode, SallyportError } from "../../src/errors.ts";
import { PipeGate, type PipeGateOptions } from "../../src/pipe/gate.ts";
import { sendPipe } from "../../src/pipe/send.ts";
import type { PipeSink, SinkHost } from "../../src/pipe/sink.ts";
import type { Watched } from "../conformance/runtime_helpers.ts";
import { parseServerHelo } from "../../src/wire/sodium/sodium_pdu.ts";
import { SenderEnd } from "../pipe/bench.ts";
import { hex, readRecorded, toHex } from "../pipe/vectors.ts";
import { edgeKeys } from "../support/sealed.ts";
import { concat, EDGE_HOST, EDGE_PORT, TestEdge, VISITOR_HOST } from "../support/tunnel.ts";
import { PIPE_FAILURES_PER_MINUTE_MAX } from "../../src/pipe/gate.ts";
import { PIPE_TRANSFERS_MAX } from "../../src/pipe/gate.ts";
import { SEALED_SILENCE_MAX_MS, SEALED_SILENCE_MIN_MS } from "../../src/transport/sealed/accept.ts";

const SEALED_PORT = 8445;
const sodium = await loadSodium();
const recorded = await readRecorded();
const keys = { secretKey: hex(recorded.server_secret), publicKey: hex(recorded.server_public) };
const [login, passphrase] = ["name", "secret"];
const body = (size: number): Bytes => Uint8Array.from({ length: size }, (_, at) => at * 31 & 255);

/** Keeps what comes; stores it when the network's turn comes. */
class Kept implements PipeSink {
  readonly chunks: Bytes[] = [];
  state: "open" | "finished" | "discarded" = "open";

  constructor(readonly name: string, readonly host: SinkHost, readonly soon: (run: () => void) => void) {}

  write(chunk: Bytes): void {
    this.chunks.push(chunk.slice());
    const { length } = chunk;
    this.soon(() => this.host.stored(length));
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

/** An edge with a port for sealed agents, and a gate there. */
class World {
  readonly sinks: Kept[] = [];
  readonly said: string[] = [];
  readonly claimed = new Set<string>();
  gate!: PipeGate;
  test!: TestEdge;
  /** How long it takes to open a sink. */
  openMs = 0;
  fails = false;

  static async start(options: Partial<PipeGateOptions> = {}, withGate = true): Promise<World> {
    const world = new World();
    world.test = await TestEdge.start({
      transports: transportsOf({
        sealed: {
          sodium,
          keys: edgeKeys(sodium),
          ...withGate
            ? {
              fallback: {
                firstBytes: 400,
                take: (conn, first, remote) => world.gate.take(conn, first, remote),
                close: (graceMs) => world.gate.close(graceMs),
              },
            }
            : {},
        },
      }),
      listen: [
        { host: "0.0.0.0", port: EDGE_PORT },
        { host: "0.0.0.0", port: SEALED_PORT, accepts: "sealed" },
      ],
    });
    const { clock } = world.test.network;
    world.gate = new PipeGate({
      ...{ sodium, keys, login, passphrase, clock },
      claim: (id) => !world.claimed.has(String(id)) && world.claimed.add(String(id)) !== undefined,
      sink: (host) =>
        new Promise((resolve, reject) => {
          clock.after(world.openMs, () => {
            if (world.fails) {
              return reject(
                new SallyportError("io_failed", "Cannot write: the disk is full", { side: "local" }),
              );
            }
            const sink = new Kept(`file ${world.sinks.length}`, host, (run) => clock.after(1, run));
            world.sinks.push(sink);
            resolve(sink);
          });
        }),
      received: (from, name, { bytes, certain }) =>
        void world.said.push(
          `received ${bytes} from ${from.host} into ${name}${certain ? "" : ", uncertain"}`,
        ),
      failed: (from, error) => void world.said.push(`failed ${from.host} ${errorCode(error)}`),
      refused: (from, error) => void world.said.push(`refused ${from.host} ${errorCode(error)}`),
      ...options,
    });
    return world;
  }

  send(bytes: Bytes, more: Record<string, unknown> = {}, sized = true): Promise<string> {
    let at = 0;
    const { clock } = this.test.network;
    const source = {
      sizeBytes: sized ? bytes.length : undefined,
      read: (into: Bytes, done: (error: undefined, count: number) => void) => {
        clock.after(0, () => {
          const part = bytes.subarray(at, at + into.length);
          into.set(part);
          at += part.length;
          done(undefined, part.length);
        });
      },
      close() {},
    };
    return sendPipe({
      runtime: this.test.runtime(VISITOR_HOST),
      to: { host: EDGE_HOST, port: SEALED_PORT },
      ...{ sodium, serverPublicKey: keys.publicKey, login, passphrase, source },
      ...more,
    }).then(
      ({ bytes, extended }) => `sent ${bytes}${extended ? " extended" : ""}`,
      (error) => `failed ${errorCode(error)}`,
    );
  }

  /** The first message of a client. */
  auth(more: Record<string, unknown> = {}): Bytes {
    const end = new SenderEnd({ sodium, serverPublicKey: keys.publicKey, login, passphrase, ...more });
    end.machine.start();
    return end.take();
  }

  async dial(port = SEALED_PORT): Promise<Watched> {
    return await this.test.dial(VISITOR_HOST, port);
  }
}

/** Fails unless the connection is ended without a byte, at a time drawn for it. */
async function assertSilent({ test }: World, conn: Watched): Promise<void> {
  await test.advance(SEALED_SILENCE_MIN_MS - 100);
  assert.equal(conn.ended || conn.closes > 0, false, "it ended early");
  await test.advance(SEALED_SILENCE_MAX_MS);
  assert.ok(conn.ended || conn.closes > 0, "it goes on");
  assert.equal(concat(...conn.chunks).length, 0);
}

describe("PipeGate: transfers of version 1 beside sealed agents", () => {
  for (const [index, session] of recorded.sessions.entries()) {
    for (const step of [1, 399, 1_000_000]) {
      it(`recorded session ${index} is answered byte for byte, in pieces of ${step}`, async () => {
        const header = parseServerHelo(hex(session.helo.plain)).streamHeader;
        const pong = session.pdus.find((pdu) => pdu.type === 5);
        const fields = new DataView((pong === undefined ? new Uint8Array(16) : hex(pong.body)).buffer);
        const world = await World.start({
          ...{ login: session.login, passphrase: session.passphrase, extended: false },
          random: (into) => into.set(header.subarray(0, into.length)),
          date: () => ({ seconds: Number(fields.getBigUint64(0)), nanoseconds: fields.getUint32(8) }),
        });
        const conn = await world.dial();
        const auth = hex(session.auth.wire);
        for (let at = 0; at < auth.length; at += step) {
          conn.conn.write(auth.slice(at, at + step));
          if (step > 1) await world.test.advance(1);
        }
        await world.test.advance(20);
        const answer = concat(...conn.chunks);
        assert.equal(answer.length, 236, "the HELO");
        if (session.client_secret !== null) {
          const secretKey = hex(session.client_secret);
          const client = { secretKey, publicKey: sodium.publicKey(secretKey) };
          assert.equal(toHex(sodium.openBox(answer, client)!), session.helo.plain);
        }
        let expected = "";
        for (const pdu of session.pdus) {
          if (pdu.sender === "client") conn.conn.write(hex(pdu.wire));
          else expected += pdu.wire;
          await world.test.advance(5);
        }
        assert.equal(toHex(concat(...conn.chunks).subarray(236)), expected);
        conn.conn.closeWrite();
        await world.test.advance(100);
        assert.equal(toHex(concat(...world.sinks[0]!.chunks)), session.sink);
        assert.equal(world.sinks[0]!.state, "finished");
        const size = session.sink.length / 2;
        assert.deepEqual(world.said, [`received ${size} from ${VISITOR_HOST} into file 0, uncertain`]);
        assert.equal(world.gate.transfers, 0);
        await world.test.assertNothingLeft();
      });
    }
  }

  it("several at once, as the C programs send and as ours do, while their sinks are slow to open", async () => {
    const world = await World.start();
    world.openMs = 500;
    const sent = [
      world.send(body(1_000_000)),
      world.send(body(300_000), { extended: false }),
      world.send(body(0)),
    ];
    assert.deepEqual(await world.test.network.settle(Promise.all(sent)), [
      "sent 1000000 extended",
      "sent 300000",
      "sent 0 extended",
    ]);
    await world.test.advance(1000);
    assert.deepEqual(world.sinks.map(({ state }) => state), ["finished", "finished", "finished"]);
    assert.deepEqual(world.sinks.map(({ chunks }) => concat(...chunks).length).sort((a, b) => a - b), [
      0,
      300_000,
      1_000_000,
    ]);
    assert.equal(world.said.length, 3);
    await world.test.assertNothingLeft();
  });

  it("are taken nowhere else: not without a gate, and not at the port that all share", async () => {
    const without = await World.start({}, false);
    const first = await without.dial();
    first.conn.write(without.auth());
    await assertSilent(without, first);
    assert.equal(
      await without.test.metric("refusals_total", { what: "connection", reason: "unknown_protocol" }),
      1,
    );
    await without.test.assertNothingLeft();

    const world = await World.start();
    const second = await world.dial(EDGE_PORT);
    let auth = world.auth();
    while ([0x16, 0x67, 0x50, 0x0d].includes(auth[0]!)) auth = world.auth();
    second.conn.write(auth);
    await assertSilent(world, second);
    assert.deepEqual(world.said, []);
    await world.test.assertNothingLeft();
  });

  it("silence for who doesn't know the key, as for any stranger", async () => {
    const world = await World.start();
    const other = makeKeyPair(sodium);
    const messages = [
      world.auth({ serverPublicKey: other.publicKey }),
      body(400),
      body(2000),
      world.auth().map((byte, at) => at === 399 ? byte ^ 1 : byte),
      world.auth().subarray(0, 399),
    ];
    for (const message of messages) {
      const conn = await world.dial();
      conn.conn.write(message);
      await assertSilent(world, conn);
    }
    const labels = { what: "connection", reason: "unknown_protocol" };
    assert.equal(await world.test.metric("refusals_total", labels), messages.length);
    assert.deepEqual(world.said, []);
    await world.test.assertNothingLeft();
  });

  it("a wrong passphrase and a replay are closed without a byte; who guesses on hears silence", async () => {
    const world = await World.start();
    const good = world.auth();
    const first = await world.dial();
    first.conn.write(good);
    await world.test.advance(50);
    assert.equal(concat(...first.chunks).length, 236);
    first.conn.abort();
    const again = await world.dial();
    again.conn.write(good);
    await world.test.advance(50);
    assert.ok(again.closes > 0 && concat(...again.chunks).length === 0);
    assert.deepEqual(world.said, [
      `failed ${VISITOR_HOST} connection_lost`,
      `refused ${VISITOR_HOST} key_reused`,
    ]);
    assert.equal(world.sinks[0]!.state, "discarded");
    for (let count = 0; count < PIPE_FAILURES_PER_MINUTE_MAX; count++) {
      const guess = await world.dial();
      guess.conn.write(world.auth({ passphrase: `guess ${count}` }));
      await world.test.advance(50);
      assert.ok(guess.closes > 0 && concat(...guess.chunks).length === 0);
    }
    assert.equal(world.said.at(-1), `refused ${VISITOR_HOST} credential_refused`);
    const over = await world.dial();
    over.conn.write(world.auth());
    await assertSilent(world, over);
    await world.test.advance(60_000);
    assert.equal(await world.test.network.settle(world.send(body(10))), "sent 10 extended");
    await world.test.assertNothingLeft();
  });

  it("a sink that can't be opened fails only its own transfer, and the sender is told", async () => {
    const world = await World.start();
    world.fails = true;
    const said: string[] = [];
    for (const openMs of [0, 500]) {
      world.openMs = openMs;
      const ends = [
        [body(10), { extended: true }, "failed aborted"],
        [body(0), { extended: true }, "failed aborted"],
        // The C programs know no reasons.
        [body(10), { extended: false }, "failed connection_lost"],
      ] as const;
      for (const [bytes, more, how] of ends) {
        assert.equal(await world.test.network.settle(world.send(bytes, more)), how);
        said.push(`failed ${VISITOR_HOST} io_failed`);
      }
    }
    await world.test.advance(100);
    assert.deepEqual(world.said, said);
    world.fails = false;
    assert.equal(await world.test.network.settle(world.send(body(10))), "sent 10 extended");
    await world.test.assertNothingLeft();
  });

  it("no longer ones than it takes, told before the first byte or found at the last, and nothing of them stays", async () => {
    const world = await World.start({ maxBytes: 300_000 });
    assert.equal(await world.test.network.settle(world.send(body(300_000))), "sent 300000 extended");
    assert.equal(
      await world.test.network.settle(world.send(body(300_000), { extended: false })),
      "sent 300000",
    );
    // Ours says how much will come; without that, and from a C client, it shows when it has come.
    assert.equal(await world.test.network.settle(world.send(body(300_001))), "failed aborted");
    assert.equal(world.sinks[2]!.chunks.length, 0);
    assert.equal(await world.test.network.settle(world.send(body(300_001), {}, false)), "failed aborted");
    const plain = await world.test.network.settle(world.send(body(300_001), { extended: false }));
    assert.equal(plain, "failed connection_lost");
    await world.test.advance(100);
    const states = world.sinks.map(({ state }) => state);
    assert.deepEqual(states, ["finished", "finished", "discarded", "discarded", "discarded"]);
    for (const { chunks } of world.sinks) assert.ok(concat(...chunks).length <= 300_000);
    const limited = `failed ${VISITOR_HOST} limit_exceeded`;
    assert.deepEqual(world.said.slice(2), [limited, limited, limited]);
    await world.test.assertNothingLeft();
  });

  it("as many at once as there is room for", async () => {
    const world = await World.start();
    const conns: Watched[] = [];
    for (let count = 0; count < PIPE_TRANSFERS_MAX; count++) {
      const conn = await world.dial();
      conn.conn.write(world.auth());
      conns.push(conn);
    }
    await world.test.advance(50);
    assert.equal(world.gate.transfers, PIPE_TRANSFERS_MAX);
    const more = await world.dial();
    more.conn.write(world.auth());
    await world.test.advance(50);
    assert.ok(more.closes > 0 && concat(...more.chunks).length === 0);
    assert.deepEqual(world.said, [`refused ${VISITOR_HOST} session_refused`]);
    conns.pop()!.conn.abort();
    await world.test.advance(50);
    assert.equal(await world.test.network.settle(world.send(body(10))), "sent 10 extended");
    for (const conn of conns) conn.conn.abort();
    await world.test.advance(100);
    assert.equal(world.gate.transfers, 0);
    await world.test.assertNothingLeft();
  });

  it("finish while the edge shuts down, or are given up when it won't wait longer", async () => {
    const world = await World.start();
    world.openMs = 300;
    const sent = world.send(body(5_000_000));
    await world.test.advance(100);
    assert.equal(world.gate.transfers, 1);
    const closing = world.test.edge.close(60_000);
    assert.equal(await world.test.network.settle(sent), "sent 5000000 extended");
    await world.test.network.settle(closing);

    const other = await World.start();
    const conn = await other.dial();
    conn.conn.write(other.auth());
    await other.test.advance(100);
    await other.test.network.settle(other.test.edge.close(1000));
    assert.deepEqual(other.said, [`failed ${VISITOR_HOST} shutdown`]);
    assert.equal(other.sinks[0]!.state, "discarded");
  });
});
