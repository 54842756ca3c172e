/** Malice from inside, over real sockets: what has logged in, or let itself be dialled, and then does what it likes. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { after, before, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { type Agent, createAgent } from "../../src/agent/agent.ts";
import { tcpConnector } from "../../src/agent/connector.ts";
import { FernetRing } from "../../src/crypto/fernet.ts";
import { loadSodium, makeKeyPair } from "../../src/crypto/sodium.ts";
import { createEdge, type Edge } from "../../src/edge/edge.ts";
import { PENALTY_FIRST_MS } from "../../src/edge/offenders.ts";
import { EdgeChallenge } from "../../src/protocol/handshake/snitun_challenge.ts";
import { type CreatedToken, createToken } from "../../src/protocol/token/token.ts";
import { IDLE_FRAMES_PER_SECOND } from "../../src/protocol/mux/frame_budget.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import type { Runtime } from "../../src/runtime/port.ts";
import { CreditFrame, encodeOpenBody } from "../../src/wire/credit/credit_frame.ts";
import { encodePing, FrameType } from "../../src/wire/snitun/snitun_frame.ts";
import { clientHello } from "../support/client_hello.ts";
import {
  ciphersOf,
  HostileSealed,
  type HostileSession,
  HostileSnitun,
  type LooseFrame,
} from "../support/hostile_session.ts";
import { startEcho } from "../support/tcp_echo.ts";
import { transportsOf } from "../support/transports.ts";
import { FERNET_KEY } from "../support/tunnel.ts";
import { until } from "../support/until.ts";

const timeout = 120_000;
const NAME = "good.test";
/**
 * A flooded session ends within this time, unless the machine is too busy for a flood: long enough that what waits in
 * the sockets, 200,000 frames, is little of what would have come.
 */
const ENDED_MS = 30_000;
const VISIT_MS = 30_000;
const BATCH = 256;
const MiB = 1024 * 1024;

const ring = new FernetRing([FERNET_KEY]);
const filler = { fill: (target: Uint8Array) => void target.fill(7) };
const newToken = (hostname: string): CreatedToken =>
  createToken(ring, { hostname, cipher: "aes-cbc", ttlSeconds: 3_600, nowMs: Date.now() });

let runtime: Runtime;
let edge: Edge;
let port: number;
let edgeKey: Uint8Array<ArrayBuffer>;
let echo: { readonly server: Server; readonly port: number };
let agent: Agent;

before(async () => {
  runtime = await currentRuntime();
  const sodium = await loadSodium();
  const keys = makeKeyPair(sodium);
  edgeKey = keys.publicKey;
  edge = createEdge({ runtime, ring, transports: transportsOf({ sealed: { sodium, keys } }) });
  port = (await edge.listen({ host: "127.0.0.1", port: 0 })).address.port;
  echo = await startEcho();
  agent = agentOf(runtime, newToken(NAME), port);
  void agent.run();
  await until(() => edge.serves(NAME));
});
after(async () => {
  await agent.close(0);
  await edge.close(0);
  echo.server.close();
});

function agentOf(runtime: Runtime, { token, claims }: CreatedToken, edgePort: number): Agent {
  return createAgent({
    runtime,
    grants: () =>
      Promise.resolve({ ...claims, token, aliases: [], edge: { host: "127.0.0.1", port: edgePort } }),
    connector: tcpConnector({ runtime, host: "127.0.0.1", port: echo.port }),
  });
}

let evils = 0;
/** A malicious agent's token; its name is its own, since the edge remembers who broke the protocol. */
const evilToken = (): CreatedToken => newToken(`evil${evils++}.test`);

/** A visit of the neighbour's: a byte behind a ClientHello, and back. Rejects where it takes too long. */
async function visit(hostname = NAME): Promise<void> {
  const socket = connect(port, "127.0.0.1");
  try {
    socket.write(clientHello(hostname));
    const [first] = await once(socket, "data", { signal: AbortSignal.timeout(VISIT_MS) });
    assert.equal((first as Buffer)[0], 0x16, "the echo of the ClientHello");
  } finally {
    socket.destroy();
  }
}

/** It has ended; or it was to be a flood, and the machine was so busy that it never was one. */
function assertBounded({ over, frames }: HostileSession, tookMs: number, isFlood: boolean): void {
  const bounded = over || (isFlood && frames / tookMs * 1000 < 2 * IDLE_FRAMES_PER_SECOND);
  assert.ok(bounded, `${frames} frames in ${tookMs} ms`);
}

/**
 * Does something until the session is over; the neighbour is served meanwhile and afterwards. Unless it is a flood, a
 * single frame is enough.
 */
async function suffers(
  session: HostileSession,
  attack: () => Promise<void>,
  isFlood = true,
): Promise<void> {
  const sinceMs = performance.now();
  const late = delay(ENDED_MS, "late", { ref: false });
  const attacking = (async () => {
    while (!session.over) {
      await attack();
      await delay(0);
    }
  })();
  await visit();
  await Promise.race([session.ended, late]);
  assertBounded(session, performance.now() - sinceMs, isFlood);
  session.stop();
  await attacking;
  await visit();
  assert.ok(runtime.memory.heldBytes < 4 * MiB, `${runtime.memory.heldBytes} bytes wait`);
}

const many = (make: (index: number) => LooseFrame) => {
  let from = 0;
  return (session: HostileSnitun) => session.send(...Array.from({ length: BATCH }, () => make(from++)));
};
const id = (index: number): Uint8Array<ArrayBuffer> => new Uint8Array(16).fill(index % 7);

describe("an agent that has logged in by SniTun loses its session, and its neighbours notice nothing", () => {
  const floods: Record<string, (session: HostileSnitun) => Promise<void>> = {
    "PING": many(() => ({ type: FrameType.PING, extra: encodePing("ping", filler) })),
    "CLOSE of unknown streams": many(() => ({ type: FrameType.CLOSE })),
    "NEW": many(() => HostileSnitun.open()),
  };
  for (const [name, flood] of Object.entries(floods)) {
    it(`floods of ${name}`, { timeout }, async () => {
      const session = await HostileSnitun.login(port, evilToken());
      await suffers(session, () => flood(session));
    });
  }

  it("a frame of 4 GiB", { timeout }, async () => {
    const session = await HostileSnitun.login(port, evilToken());
    await suffers(session, () => session.send({ type: FrameType.DATA, size: 0xffff_ffff }), false);
  });

  it("it may return after a second, and no sooner", { timeout }, async () => {
    const token = evilToken();
    const session = await HostileSnitun.login(port, token);
    // The penalty begins at the edge, before its end is heard of here.
    const offendedMs = performance.now();
    await session.send({ type: FrameType.DATA, size: 0xffff_ffff });
    await session.ended;
    await until(() =>
      HostileSnitun.login(port, token).then((again) => again.stop()).then(() => true, () => false)
    );
    assert.ok(performance.now() >= offendedMs + 0.9 * PENALTY_FIRST_MS);
    await visit();
  });
});

describe("an agent that has logged in by the sealed transport loses its session, too", () => {
  const open = encodeOpenBody({ address: "192.0.2.1", port: 1, serverName: undefined, creditBytes: 9 });
  const first = 0x8000_0001;
  const floods: Record<string, (index: number) => readonly [number, number, Uint8Array<ArrayBuffer>]> = {
    "PING": () => [CreditFrame.PING, 0, new Uint8Array(16)],
    "OPEN": (index) => [CreditFrame.OPEN, first + index, open],
  };
  for (const [name, make] of Object.entries(floods)) {
    it(`floods of ${name}`, { timeout }, async () => {
      const session = await HostileSealed.login(port, edgeKey, evilToken());
      let from = 0;
      await suffers(session, () => session.send(...Array.from({ length: BATCH }, () => make(from++))));
    });
  }

  it("a stream that was never opened", { timeout }, async () => {
    const session = await HostileSealed.login(port, edgeKey, evilToken());
    await suffers(session, () => session.send([CreditFrame.DATA, 4_000, new Uint8Array(1)]), false);
  });
});

describe("visitors and endpoints that misbehave", () => {
  it(
    "reset in the middle, never send, never read: the others are served, and nothing stays",
    { timeout },
    async () => {
      const sockets: Socket[] = [];
      for (let count = 0; count < 90; count++) {
        const socket = connect(port, "127.0.0.1");
        socket.on("error", () => {});
        sockets.push(socket);
        // A third says half of a ClientHello, a third never reads its echo, a third resets while it sends.
        const hello = clientHello(NAME);
        if (count % 3 === 0) socket.write(hello.subarray(0, 50));
        else socket.write(Buffer.concat([hello, new Uint8Array(100_000)]));
        if (count % 3 === 1) socket.pause();
        if (count % 3 === 2) socket.once("data", () => socket.resetAndDestroy());
      }
      for (let round = 0; round < 5; round++) await visit();
      for (const socket of sockets) socket.destroy();
      await visit();
      const endMs = performance.now() + ENDED_MS;
      while (runtime.memory.heldBytes > MiB && performance.now() < endMs) await delay(10);
      assert.ok(runtime.memory.heldBytes <= MiB, `${runtime.memory.heldBytes} bytes wait`);
    },
  );
});

describe("an edge that does what it likes with our agent", () => {
  /** Serves one agent as a hostile edge, until the agent leaves; gives where the agent has dialled. */
  async function servedBy(
    attack: (session: HostileSnitun) => Promise<void>,
    isFlood: boolean,
  ): Promise<Set<string>> {
    const token = newToken("victim.test");
    const dialled = new Set<string>();
    const watched: Runtime = {
      ...runtime,
      dial: (to) => {
        dialled.add(`${to.host}:${to.port}`);
        return runtime.dial(to);
      },
    };
    const over = Promise.withResolvers<void>();
    let begun = false;
    let hostile: HostileSnitun | undefined;
    const server = createServer((socket) => {
      if (begun) return void socket.destroy();
      begun = true;
      const { sealer, opener } = ciphersOf(token, "edge");
      const challenge = new EdgeChallenge(sealer, opener);
      let shown = 0;
      const login = (chunk: Buffer) => {
        shown += chunk.length;
        if (shown < token.token.length) return;
        if (shown === token.token.length) return void socket.write(challenge.first);
        if (challenge.push(new Uint8Array(chunk)) === undefined) return;
        socket.off("data", login);
        const session = hostile = HostileSnitun.of(socket, sealer, opener);
        const attacking = (async () => {
          while (!session.over) {
            await attack(session);
            await delay(0);
          }
        })();
        void attacking.then(over.resolve, over.reject);
      };
      socket.on("data", login);
      socket.on("error", () => {});
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const edgePort = (server.address() as { port: number }).port;
    const victim = agentOf(watched, token, edgePort);
    void victim.run().catch(() => {});
    try {
      const sinceMs = performance.now();
      await Promise.race([over.promise, delay(ENDED_MS, "late", { ref: false })]);
      assert.ok(hostile !== undefined, "the agent has logged in");
      assertBounded(hostile, performance.now() - sinceMs, isFlood);
    } finally {
      await victim.close(0);
      server.close();
    }
    dialled.delete(`127.0.0.1:${edgePort}`);
    return dialled;
  }

  const payload = new Uint8Array(
    Buffer.concat([clientHello("victim.test"), Buffer.from("169.254.169.254:80")]),
  );
  const HUGE = "a frame of 4 GiB";
  const attacks: Record<string, (session: HostileSnitun) => Promise<void>> = {
    "PING": many(() => ({ type: FrameType.PING, extra: encodePing("ping", filler) })),
    "CLOSE of unknown streams": many(() => ({ type: FrameType.CLOSE })),
    [HUGE]: (session) => session.send({ type: FrameType.DATA, size: 0xffff_ffff }),
    "NEW, DATA that names other addresses, CLOSE": (session) => {
      const frames = Array.from({ length: 8 }, (_, index) => [
        HostileSnitun.open(id(index)),
        { type: FrameType.DATA, id: id(index), payload },
        { type: FrameType.CLOSE, id: id(index) },
      ]).flat();
      const idle = Array.from({ length: BATCH }, () => ({ type: FrameType.CLOSE }));
      return session.send(...frames, ...idle);
    },
  };
  for (const [name, attack] of Object.entries(attacks)) {
    it(`${name}: the agent leaves, and has dialled its endpoint alone`, { timeout }, async () => {
      for (const place of await servedBy(attack, name !== HUGE)) {
        assert.equal(place, `127.0.0.1:${echo.port}`);
      }
      assert.ok(runtime.memory.heldBytes < 4 * MiB);
    });
  }
});
