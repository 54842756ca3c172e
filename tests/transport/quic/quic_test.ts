/** The QUIC transport's edge before agents that don't keep to it, in the network in memory. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { FernetRing, generateFernetKey } from "../../../src/crypto/fernet.ts";
import { type ErrorCode, SallyportError } from "../../../src/errors.ts";
import { type CreatedToken, createToken, tryOpenToken } from "../../../src/protocol/token/token.ts";
import { createMemoryNetwork } from "../../../src/runtime/memory/memory.ts";
import type { Bytes, Conn } from "../../../src/runtime/port.ts";
import type { QuicConn } from "../../../src/runtime/quic_port.ts";
import { listenQuic } from "../../../src/transport/quic/accept.ts";
import { QUIC_ALPN } from "../../../src/transport/quic/session.ts";
import type { Session } from "../../../src/transport/port.ts";
import {
  CreditFrame,
  encodeCreditFrame,
  encodeOpen,
  encodeReason,
} from "../../../src/wire/credit/credit_frame.ts";
import { showToken } from "../../support/quic_site.ts";
import {
  encodeLogin,
  encodeLoginToken,
  encodeVerdict,
  LOGIN_CHALLENGE_BYTES,
} from "../../../src/wire/login/login_messages.ts";
import { identities, QuicEar } from "../../conformance/quic_helpers.ts";
import { pattern, Watched } from "../../conformance/runtime_helpers.ts";
import { Ear } from "../../conformance/transport_helpers.ts";
import {
  CREDIT_SESSION_FIRST_BYTES,
  CREDIT_STREAM_FIRST_BYTES,
} from "../../../src/protocol/mux/credit/windows.ts";
import {
  DEFAULT_QUEUE_LIMITS,
  SESSION_WRITE_STALL_MS,
  STREAMS_PER_SESSION_MAX,
} from "../../../src/protocol/mux/queue_limits.ts";
import { TOKEN_DEADLINE_MS } from "../../../src/protocol/token/token_reader.ts";
import { LINGER_MS } from "../../../src/runtime/port.ts";
import { QUIC_PENDING_PER_SOURCE_MAX } from "../../../src/runtime/quic_port.ts";
import { HELLO_DEADLINE_MS } from "../../../src/wire/tls/client_hello.ts";

const HOST = "10.0.0.1";
const AGENT = "10.0.0.2";
const NOTHING: Bytes = new Uint8Array(0);

class World {
  readonly network = createMemoryNetwork({ seed: 7 });
  readonly ring = new FernetRing([generateFernetKey()]);
  readonly refused: ErrorCode[] = [];
  readonly sessions: { readonly session: Session; readonly ear: Ear }[] = [];

  static run(body: (world: World) => Promise<void>): Promise<void> {
    const world = new World();
    return world.network.settle(world.#listen().then(() => body(world)));
  }

  async #listen(): Promise<void> {
    const { own } = await identities();
    const { clock } = this.network;
    await listenQuic({
      // Raw agents answer no pings.
      queueLimits: { ...DEFAULT_QUEUE_LIMITS, silenceMaxMs: 3_600_000 },
      runtime: this.network.runtime(HOST),
      host: HOST,
      port: 4433,
      identity: own,
      admission: {
        openToken: (bytes) => tryOpenToken(this.ring, bytes, clock.wallMs() / 1000),
        authorize: () => {},
        admit: (_, session) => {
          const ear = new Ear();
          this.sessions.push({ session, ear });
          return ear;
        },
        refused: (error) => void this.refused.push(error.code),
      },
    });
  }

  wait(durationMs: number): Promise<void> {
    return new Promise((resolve) => void this.network.clock.after(durationMs, resolve));
  }

  token(): CreatedToken {
    const nowMs = this.network.clock.wallMs();
    return createToken(this.ring, { hostname: "a.test", ttlSeconds: 600, nowMs });
  }

  async dial(): Promise<RawAgent> {
    const { fingerprint } = await identities();
    const quic = await this.network.runtime(AGENT).quic();
    const conn = await quic.dial({
      host: HOST,
      port: 4433,
      alpn: QUIC_ALPN,
      trust: { fingerprint },
      timeoutMs: 5_000,
    });
    return new RawAgent(conn);
  }

  /** An agent that has been let in, and the edge's end of its session. */
  async admitted(): Promise<{ agent: RawAgent; session: Session; ear: Ear }> {
    const agent = await this.dial();
    const control = await agent.open();
    await showToken(control, this.token());
    await control.received(LOGIN_CHALLENGE_BYTES + 1);
    return { agent, ...this.sessions.at(-1)! };
  }
}

/** A connection on which a test says what it likes; its first stream is the control stream. */
class RawAgent {
  readonly conn: QuicConn;
  readonly ear = new QuicEar();
  readonly streams: Watched[] = [];

  constructor(conn: QuicConn) {
    this.conn = conn;
    conn.attach(this.ear);
  }

  get control(): Watched {
    return this.streams[0]!;
  }

  async open(...frames: Bytes[]): Promise<Watched> {
    const stream = new Watched(await this.conn.open() as Conn);
    this.streams.push(stream);
    for (const frame of frames) stream.write(frame);
    return stream;
  }
}

const OPEN = encodeOpen(0, {
  address: "192.0.2.1",
  port: 7,
  serverName: undefined,
  creditBytes: CREDIT_STREAM_FIRST_BYTES,
});
/** A login of some text and some proof. */
const NONSENSE = encodeLogin({ token: pattern(500), proof: pattern(32) });
/** What an agent may say before it has the edge's challenge. */
const firstPart = ({ token }: CreatedToken) => encodeLoginToken(new TextEncoder().encode(token));
const FIN = encodeCreditFrame(CreditFrame.FIN, 0, NOTHING);
const RESET = encodeReason(CreditFrame.RESET, 0, "aborted");
const data = (size: number) => encodeCreditFrame(CreditFrame.DATA, 0, pattern(size));

describe("listenQuic: an agent before the verdict", () => {
  const cases:
    readonly (readonly [string, ErrorCode, (agent: RawAgent, token: CreatedToken) => Promise<unknown>])[] = [
      ["says nothing", "deadline_exceeded", () => Promise.resolve()],
      ["doesn't finish its login", "deadline_exceeded", (agent, token) => agent.open(firstPart(token))],
      ["has a login that is too long", "token_invalid", (agent) => agent.open(new Uint8Array([0x40, 0x01]))],
      ["has an empty login", "token_invalid", (agent) => agent.open(new Uint8Array(2))],
      ["shows nonsense", "token_invalid", (agent) => agent.open(NONSENSE)],
      ["writes on after its login", "token_invalid", async (agent, token) => {
        await showToken(await agent.open(), token, OPEN);
      }],
      ["ends its stream", "connection_lost", async (agent, token) => {
        (await agent.open(firstPart(token).subarray(0, 9))).closeWrite();
      }],
      ["opens more streams", "token_invalid", async (agent) => {
        for (let i = 0; i < 300; i++) await agent.open(OPEN);
      }],
    ];
  for (const [what, code, say] of cases) {
    it(`and ${what} is turned down: ${code}`, () =>
      World.run(async (world) => {
        const agent = await world.dial();
        await say(agent, world.token());
        await world.wait(TOKEN_DEADLINE_MS + 100);
        assert.deepEqual([world.refused, world.sessions.length], [[code], 0]);
        // The edge leaves the closing to it, for a while.
        await world.wait(LINGER_MS + 100);
        assert.ok(agent.ear.endedWith !== undefined);
        assert.equal(world.refused.length, 1);
        assert.equal((await world.admitted()).ear.endedWith, undefined, "others are let in");
      }));
  }

  it("hears why it is turned down", () =>
    World.run(async (world) => {
      const agent = await world.dial();
      const control = await agent.open(NONSENSE);
      await control.sawEnd;
      assert.deepEqual(
        Buffer.concat(control.chunks).subarray(LOGIN_CHALLENGE_BYTES),
        Buffer.from(encodeVerdict("token_invalid")),
      );
    }));

  it("counts as unfinished until its connection is over, turned down or not", () =>
    World.run(async (world) => {
      const agents = await Promise.all(
        Array.from({ length: QUIC_PENDING_PER_SOURCE_MAX }, () => world.dial()),
      );
      const late = await world.dial();
      await late.ear.over;
      assert.equal(world.refused.pop(), "limit_exceeded");
      // Turned down, and lingering.
      await agents[0]!.open(new Uint8Array(2));
      await world.wait(100);
      assert.equal(world.refused.pop(), "token_invalid");
      await (await world.dial()).ear.over;
      assert.equal(world.refused.pop(), "limit_exceeded");
      agents[0]!.conn.close(new SallyportError("aborted", "The test is over", { side: "local" }));
      await world.wait(100);
      await world.admitted();
    }));
});

describe("listenQuic: an agent that has been let in", () => {
  it("has 5 s for a stream's OPEN; other streams don't notice", () =>
    World.run(async (world) => {
      const { agent, session, ear } = await world.admitted();
      const good = await agent.open(OPEN);
      const slow = await agent.open(OPEN.subarray(0, -1));
      await world.wait(HELLO_DEADLINE_MS + 100);
      assert.deepEqual([slow.closes, good.closes, ear.refusals], [1, 0, ["deadline_exceeded"]]);
      good.write(data(10));
      await world.wait(100);
      assert.deepEqual([session.bytesReceived, session.streams], [10, 1]);
    }));

  const broken: readonly (readonly [string, (agent: RawAgent) => Promise<unknown> | void])[] = [
    ["DATA before OPEN", (agent) => agent.open(data(1))],
    ["FIN before OPEN", (agent) => agent.open(FIN)],
    ["a second OPEN", (agent) => agent.open(OPEN, OPEN)],
    ["DATA after FIN", (agent) => agent.open(OPEN, FIN, data(1))],
    ["a second FIN", (agent) => agent.open(OPEN, FIN, FIN)],
    ["more than a stream's credit", (agent) => agent.open(OPEN, data(65_536), data(65_536), data(1))],
    ["a frame that is too long", (agent) => agent.open(OPEN, new Uint8Array([2, 1, 0, 1, 0, 0, 0, 0]))],
    ["OPEN on the control stream", (agent) => void agent.control.write(OPEN)],
    ["DATA on the control stream", (agent) => void agent.control.write(data(1))],
    ["the end of the control stream", (agent) => agent.control.closeWrite()],
  ];
  for (const [what, say] of broken) {
    it(`loses its session by ${what}`, () =>
      World.run(async (world) => {
        const { agent, session, ear } = await world.admitted();
        // Paused, so that they have no more credit than at first.
        ear.also = { stream: (stream) => new Watched(stream as unknown as Conn).pause() };
        const other = await agent.open(OPEN);
        await say(agent);
        await world.wait(100);
        const code = what.startsWith("the end") ? "connection_lost" : "frame_invalid";
        assert.equal(ear.endedWith?.code, code);
        await agent.ear.over;
        assert.deepEqual([other.closes, session.streams], [1, 0]);
      }));
  }

  it("may reset a stream at any point: nothing of it stays, and others go on", () =>
    World.run(async (world) => {
      const { agent, session, ear } = await world.admitted();
      const befores: Bytes[][] = [[], [data(1_000)], [FIN], [data(9), FIN], [data(500).subarray(0, 99)]];
      for (const before of befores) {
        const stream = await agent.open(OPEN, ...before);
        await world.wait(20);
        // Cut in the middle of a frame, the frame must be finished first; the hard way needs no frame.
        if (before[0]?.length === 99) stream.abort();
        else stream.write(RESET);
      }
      const broken = await agent.open(OPEN, RESET, RESET, data(70), FIN);
      await world.wait(100);
      for (const stream of ear.streams) new Watched(stream as unknown as Conn);
      await world.wait(100);
      assert.deepEqual([session.streams, ear.closedStreams, ear.endedWith], [
        0,
        befores.length + 1,
        undefined,
      ]);
      // What doesn't end its direction is ended.
      await world.wait(SESSION_WRITE_STALL_MS + 100);
      assert.equal(broken.closes, 1);
      await agent.open(OPEN, data(3));
      await world.wait(100);
      assert.equal(session.streams, 1);
    }));

  it("has its dropped bytes back as credit, however many streams it resets", () =>
    World.run(async (world) => {
      const { agent, session, ear } = await world.admitted();
      ear.also = { stream: (stream) => void stream.abort() };
      const each = 100_000;
      for (let sent = 0; sent < 2 * CREDIT_SESSION_FIRST_BYTES; sent += each) {
        await agent.open(OPEN, data(each / 2), data(each / 2), RESET);
        await world.wait(20);
      }
      assert.equal(ear.endedWith, undefined);
      assert.equal(session.streams, 0);
    }));

  it("gets a RESET for one stream too many, and keeps its session", () =>
    World.run(async (world) => {
      const { agent, session, ear } = await world.admitted();
      for (let i = 0; i < STREAMS_PER_SESSION_MAX; i++) await agent.open(OPEN);
      await world.wait(1_000);
      assert.equal(session.streams, STREAMS_PER_SESSION_MAX);
      const more = await agent.open(OPEN);
      await more.received(1);
      assert.deepEqual(
        Buffer.concat(more.chunks),
        Buffer.from(encodeReason(CreditFrame.RESET, 0, "limit_exceeded")),
      );
      assert.deepEqual([ear.refusals, ear.endedWith], [["limit_exceeded"], undefined]);
    }));

  it("that pings and reads nothing is given up, in bounded memory", () =>
    World.run(async (world) => {
      const { agent, ear } = await world.admitted();
      agent.control.pause();
      const ping = encodeCreditFrame(CreditFrame.PING, 0, pattern(16));
      for (let i = 0; i < 100 && ear.endedWith === undefined; i++) {
        for (let j = 0; j < 1_000; j++) agent.control.write(ping);
        await world.wait(50);
      }
      assert.equal(ear.endedWith?.code, "session_stalled");
    }));
});
