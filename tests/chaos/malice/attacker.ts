/**
 * Run as a process of its own: one attack on an edge, until it is killed. Its argument is a JSON {@link AttackOrder}.
 *
 * @module
 */
import { connect, type Socket } from "node:net";
import process from "node:process";
import { FernetRing } from "../../../src/crypto/fernet.ts";
import { createToken } from "../../../src/protocol/token/token.ts";
import { CreditFrame, encodeOpenBody } from "../../../src/wire/credit/credit_frame.ts";
import { encodePing, FrameType } from "../../../src/wire/snitun/snitun_frame.ts";
import { clientHello } from "../../support/client_hello.ts";
import { HostileSealed, HostileSnitun, type LooseFrame } from "../../support/hostile_session.ts";

/** What an attacker is told. */
export interface AttackOrder {
  readonly attack: string;
  readonly port: number;
  readonly fernetKey: string;
  /** The attacker's names are below it: an edge remembers who broke the protocol. */
  readonly domain: string;
  /** The edge's public key in base64url. */
  readonly edgeKey: string;
}

const BATCH = 512;
const filler = { fill: (target: Uint8Array) => void target.fill(7) };

const order = JSON.parse(process.argv[2]!) as AttackOrder;
const ring = new FernetRing([order.fernetKey]);
const token = (hostname: string) =>
  createToken(ring, { hostname, ttlSeconds: 3_600, nowMs: Date.now(), cipher: "aes-cbc" });
const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
let begun = false;
let sessions = 0;

function started(): void {
  sessions++;
  if (!begun) console.log("started");
  begun = true;
}

/** Logs in by SniTun, does this until the session is ended, and comes again. */
async function again(
  attack: (session: HostileSnitun) => Promise<void>,
  hostname = `evil.${order.domain}`,
): Promise<void> {
  for (;;) {
    try {
      const session = await HostileSnitun.login(order.port, token(hostname));
      started();
      await attack(session);
      session.stop();
    } catch {
      await sleep(20);
    }
  }
}

async function againSealed(attack: (session: HostileSealed) => Promise<void>): Promise<void> {
  for (;;) {
    try {
      const edgeKey = new Uint8Array(Buffer.from(order.edgeKey, "base64url"));
      const session = await HostileSealed.login(order.port, edgeKey, token(`evil.${order.domain}`));
      started();
      await attack(session);
      session.stop();
    } catch {
      await sleep(20);
    }
  }
}

/** Sends frames that this makes, one batch after another. */
const flood = (make: (index: number) => LooseFrame) =>
  again(async (session) => {
    for (let index = 0; !session.over; index += BATCH) {
      await session.send(...Array.from({ length: BATCH }, (_, at) => make(index + at)));
      await sleep(0);
    }
  });

const floodSealed = (
  make: (index: number) => readonly (readonly [number, number, Uint8Array<ArrayBuffer>?])[],
) =>
  againSealed(async (session) => {
    for (let index = 0; !session.over; index += BATCH) {
      await session.send(...Array.from({ length: BATCH }, (_, at) => make(index + at)).flat());
      await sleep(0);
    }
  });

const idOf = (index: number): Uint8Array<ArrayBuffer> => {
  const id = new Uint8Array(16).fill(9);
  new DataView(id.buffer).setUint32(0, index);
  return id;
};

function visitor(hostname: string): Socket {
  const socket = connect(order.port, "127.0.0.1", () => socket.write(clientHello(hostname)));
  socket.on("error", () => {});
  return socket;
}

/** Sessions whose streams bring bytes without end, whatever the edge says. */
async function pourers(count: number, visitors: number): Promise<void> {
  const chunk = new Uint8Array(64 * 1024);
  for (let at = 0; at < count; at++) {
    const hostname = `evil${at}.${order.domain}`;
    void again(async (session) => {
      // The edge has to take the answer to its challenge before the name is served.
      await sleep(200);
      const ids: Uint8Array<ArrayBuffer>[] = [];
      session.heard = (type, id) => void (type === FrameType.NEW && ids.push(id));
      const sockets = Array.from({ length: visitors }, () => visitor(hostname).pause());
      while (ids.length < visitors / 2 && !session.over) await sleep(10);
      while (!session.over) {
        for (const id of ids) await session.send({ type: FrameType.DATA, id, payload: chunk });
        await sleep(0);
      }
      for (const socket of sockets) socket.destroy();
    }, hostname);
    await sleep(50);
  }
}

const open = encodeOpenBody({ address: "192.0.2.1", port: 1, serverName: undefined, creditBytes: 9 });
const AGENTS = 0x8000_0000;

const ATTACKS: Record<string, () => void | Promise<void>> = {
  "snitun: PING": () => flood(() => ({ type: FrameType.PING, extra: encodePing("ping", filler) })),
  "snitun: PONG": () => flood(() => ({ type: FrameType.PING, extra: encodePing("pong", filler) })),
  "snitun: PAUSE": () => flood(() => ({ type: FrameType.PAUSE })),
  "snitun: CLOSE": () => flood(() => ({ type: FrameType.CLOSE })),
  "snitun: DATA of 1 byte for unknown streams": () =>
    flood(() => ({ type: FrameType.DATA, payload: new Uint8Array(1) })),
  "snitun: DATA of 64 KiB for unknown streams": () => {
    const payload = new Uint8Array(64 * 1024);
    return again(async (session) => {
      while (!session.over) {
        await session.send(...Array.from({ length: 8 }, () => ({ type: FrameType.DATA, payload })));
        await sleep(0);
      }
    });
  },
  "snitun: NEW": () => flood(() => HostileSnitun.open()),
  "snitun: NEW and CLOSE in turn": () =>
    flood((index) =>
      index % 2 === 0 ? HostileSnitun.open(idOf(index)) : { type: FrameType.CLOSE, id: idOf(index - 1) }
    ),
  "snitun: NEW with ids that are in use": () => flood((index) => HostileSnitun.open(idOf(index % 7))),
  "snitun: a frame of 4 GiB": () =>
    again(async (session) => {
      await session.send({ type: FrameType.DATA, size: 0xffff_ffff });
      await session.ended;
    }),
  "snitun: PING, and reads nothing": () =>
    again(async (session) => {
      session.socket.pause();
      while (!session.over) {
        await session.send(
          ...Array.from({ length: BATCH }, () => ({
            type: FrameType.PING,
            extra: encodePing("ping", filler),
          })),
        );
        await sleep(10);
      }
    }),
  "sealed: PING": () => floodSealed(() => [[CreditFrame.PING, 0, new Uint8Array(16)]]),
  "sealed: CREDIT of 1 byte": () =>
    floodSealed(() => [[CreditFrame.CREDIT, 0, new Uint8Array([0, 0, 0, 1])]]),
  "sealed: OPEN": () => floodSealed((index) => [[CreditFrame.OPEN, AGENTS + index + 1, open]]),
  "sealed: OPEN and RESET in turn": () =>
    floodSealed((index) => [
      [CreditFrame.OPEN, AGENTS + index + 1, open],
      [CreditFrame.RESET, AGENTS + index + 1, new Uint8Array(2)],
    ]),
  "10 sessions ignore PAUSE": () => pourers(10, 20),
  "20 names, 60 visitors each that don't read": () => pourers(20, 60),
  "9,000 slow connections": async () => {
    const hello = clientHello("a.example.org");
    started();
    for (let count = 0; count < 9_000; count++) {
      const socket = connect(order.port, "127.0.0.1", () => socket.write(hello.subarray(0, 1 + count % 40)));
      socket.on("error", () => {});
      if (count % 16 === 0) await sleep(4);
    }
  },
  "visitors reset in the middle": async () => {
    for (let count = 0;; count++) {
      const socket = visitor("a.example.org");
      setTimeout(() => socket.resetAndDestroy(), 5 + count % 20);
      if (count === 200) started();
      await sleep(4);
    }
  },
  "ClientHellos of names that nobody serves": async () => {
    for (let count = 0;; count++) {
      visitor(`no${count}.example.org`).on("data", () => {});
      if (count === 200) started();
      if (count % 2 === 0) await sleep(4);
    }
  },
};

if (order.attack === "list") console.log(JSON.stringify(Object.keys(ATTACKS)));
else {
  process.on("SIGTERM", () => {
    console.log(`sessions ${sessions}`);
    process.exit(0);
  });
  await ATTACKS[order.attack]!();
}
