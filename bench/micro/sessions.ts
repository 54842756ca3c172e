/**
 * Two sessions back to back in memory, without ciphers and sockets: what the multiplexers themselves cost.
 *
 * @module
 */
import { BlockPool } from "../../src/bytes/block_pool.ts";
import type { Bytes } from "../../src/bytes/bytes.ts";
import type { Opener, Role, Sealer } from "../../src/crypto/header_cipher.ts";
import { RandomPool } from "../../src/crypto/random.ts";
import { CreditScratch } from "../../src/protocol/mux/credit/sender.ts";
import { CreditSession } from "../../src/protocol/mux/credit/session.ts";
import type { Multiplexer, MuxHost } from "../../src/protocol/mux/host.ts";
import { SendScratch } from "../../src/protocol/mux/snitun/sender.ts";
import { MuxSession } from "../../src/protocol/mux/snitun/session.ts";
import type { ByteStream, ByteStreamHandler, Clock } from "../../src/runtime/port.ts";
import type { QuicConn, QuicConnHandler } from "../../src/runtime/quic_port.ts";
import type { SessionHandler, SessionStream } from "../../src/transport/port.ts";
import { QuicSession } from "../../src/transport/quic/session.ts";

/** Two sessions and what lies between them. */
export interface SessionPair {
  /** Opens a stream at the edge; `handler` is the agent's end of it, which ends when the edge does. */
  open(): SessionStream;
  /** Lets both sessions do all they have to do. */
  settle(): void;
  /** Payload that the agent has received. */
  readonly receivedBytes: number;
}

const CALLER = { address: "192.0.2.1", port: 7, serverName: "a.test" };
const SILENT: ByteStreamHandler = { data() {}, end() {}, drain() {}, close() {} };

/** The agent's handler: takes what comes, and ends when the edge ends. */
function answer(stream: ByteStream, counter: { receivedBytes: number }): void {
  stream.attach({
    data: (chunk) => void (counter.receivedBytes += chunk.length),
    end: () => stream.closeWrite(),
    drain() {},
    close() {},
  });
}

function opened(stream: SessionStream): SessionStream {
  stream.attach(SILENT);
  return stream;
}

class Side implements MuxHost<SessionStream> {
  mux!: Multiplexer<SessionStream>;
  out: Bytes[] = [];
  woken = false;
  readonly counter: { receivedBytes: number };

  constructor(counter: { receivedBytes: number }) {
    this.counter = counter;
  }
  write(bytes: Bytes): boolean {
    this.out.push(bytes.slice());
    return true;
  }
  wake(): void {
    this.woken = true;
  }
  arm(): void {}
  nowMs(): number {
    return performance.now();
  }
  holdReading(): void {}
  opened(stream: SessionStream): void {
    answer(stream, this.counter);
  }
  refused(): void {}
  closed(): void {}
  ended(error: Error): void {
    throw error;
  }
}

function pair(make: (role: Role, host: MuxHost<SessionStream>) => Multiplexer<SessionStream>): SessionPair {
  const counter = { receivedBytes: 0 };
  const [edge, agent] = [new Side(counter), new Side(counter)];
  edge.mux = make("edge", edge);
  agent.mux = make("agent", agent);
  const step = (from: Side, to: Side): boolean => {
    if (!from.woken && from.out.length === 0) return false;
    if (from.woken) {
      from.woken = false;
      from.mux.turn();
    }
    const out = from.out;
    from.out = [];
    for (const bytes of out) to.mux.receive(bytes);
    return true;
  };
  const settle = () => {
    while (step(edge, agent) || step(agent, edge));
  };
  edge.mux.start();
  agent.mux.start();
  settle();
  return {
    settle,
    open: () => opened(edge.mux.open(CALLER)),
    get receivedBytes() {
      return counter.receivedBytes;
    },
  };
}

/** The credit dialect over one byte stream. */
export function creditPair(): SessionPair {
  const scratch = new CreditScratch();
  const random = new RandomPool(4096);
  return pair((role, host) =>
    new CreditSession({ role, host, scratch, random }) as unknown as Multiplexer<SessionStream>
  );
}

/** SniTun's dialect, version 2, with headers in clear. */
export function snitunPair(): SessionPair {
  const scratch = new SendScratch();
  const sealer: Sealer = { overheadBytes: 0, seal: (plain) => plain, park() {} };
  const opener: Opener = { overheadBytes: 0, open: (sealed) => sealed, park() {} };
  return pair((role, host) =>
    new MuxSession({
      role,
      protocolVersion: 2,
      host: host as never,
      sealer,
      opener,
      scratch,
    }) as unknown as Multiplexer<SessionStream>
  );
}

/** One direction pair of a QUIC stream in memory. */
class Lane implements ByteStream {
  other!: Lane;
  handler: ByteStreamHandler | undefined;
  out: Bytes[] = [];
  early: Bytes[] = [];
  ended = false;
  readonly lanes: Lane[];
  dirty = false;

  constructor(lanes: Lane[]) {
    this.lanes = lanes;
  }
  readonly bufferedBytes = 0;
  attach(handler: ByteStreamHandler): void {
    this.handler = handler;
    for (const bytes of this.early.splice(0)) handler.data(bytes);
  }
  write(chunk: Bytes): boolean {
    this.out.push(chunk.slice());
    this.#mark();
    return true;
  }
  closeWrite(): void {
    this.ended = true;
    this.#mark();
  }
  abort(): void {}
  release(): void {}
  pause(): void {}
  resume(): void {}
  #mark(): void {
    if (!this.dirty) this.lanes.push(this);
    this.dirty = true;
  }
  pump(): void {
    this.dirty = false;
    const out = this.out;
    this.out = [];
    const { handler, early } = this.other;
    for (const bytes of out) {
      if (handler === undefined) early.push(bytes);
      else handler.data(bytes);
    }
    if (this.ended) handler?.end();
  }
}

/** The credit dialect over QUIC, a stream for each visitor. */
export function quicPair(): SessionPair {
  const counter = { receivedBytes: 0 };
  const lanes: Lane[] = [];
  const turns: (() => void)[] = [];
  const clock: Clock = {
    nowMs: () => performance.now(),
    wallMs: () => Date.now(),
    after: () => ({ cancel() {} }),
    soon: (run) => void turns.push(run),
  };
  const join = (): [Lane, Lane] => {
    const [near, far] = [new Lane(lanes), new Lane(lanes)];
    near.other = far;
    far.other = near;
    return [near, far];
  };
  const handlers: Partial<Record<Role, QuicConnHandler>> = {};
  const control = join();
  const sessions = (["edge", "agent"] as const).map((role, i) => {
    const conn: QuicConn = {
      remote: { host: "192.0.2.1", port: 1 },
      alpn: "",
      peerFingerprint: undefined,
      attach: (handler) => void (handlers[role] = handler),
      open: () =>
        ({
          then(granted: (stream: ByteStream) => void) {
            const [near, far] = join();
            handlers[role === "edge" ? "agent" : "edge"]!.stream(far);
            granted(near);
          },
        }) as Promise<never>,
      close() {},
    };
    const session = new QuicSession({
      role,
      conn,
      control: control[i]!,
      clock,
      random: new RandomPool(4096),
      blocks: new BlockPool(),
    });
    const handler: SessionHandler = {
      stream: (stream) => answer(stream, counter),
      streamClosed() {},
      streamRefused() {},
      ended(error) {
        throw error;
      },
    };
    session.start(handler, new Uint8Array(0));
    return session;
  });
  const settle = () => {
    while (turns.length > 0 || lanes.length > 0) {
      for (const run of turns.splice(0)) run();
      for (const lane of lanes.splice(0)) lane.pump();
    }
  };
  settle();
  return {
    settle,
    open: () => opened(sessions[0]!.open(CALLER)),
    get receivedBytes() {
      return counter.receivedBytes;
    },
  };
}
