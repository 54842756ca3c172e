/**
 * Both dialects of the multiplexer as state machines: what a peer sends, frame after frame, to a session whose streams
 * are read, paused and ended as they come.
 *
 * @module
 */
import { createHash, type Hash } from "node:crypto";
import type { Bytes } from "../../src/bytes/bytes.ts";
import type { Opener, Sealer } from "../../src/crypto/sealer.ts";
import type { SallyportError } from "../../src/errors.ts";
import { CreditScratch } from "../../src/protocol/mux/credit/sender.ts";
import { CreditSession } from "../../src/protocol/mux/credit/session.ts";
import { IDLE_WINDOW_MS } from "../../src/protocol/mux/frame_budget.ts";
import type { Multiplexer, MuxHost } from "../../src/protocol/mux/host.ts";
import { SendScratch } from "../../src/protocol/mux/snitun/sender.ts";
import { MuxSession } from "../../src/protocol/mux/snitun/session.ts";
import { FramedQuicStream } from "../../src/transport/quic/framed_stream.ts";
import type { ByteStream } from "../../src/runtime/port.ts";
import {
  CreditFrame,
  encodeCreditFrame,
  encodeOpen,
  encodeReason,
} from "../../src/wire/credit/credit_frame.ts";
import {
  CHANNEL_ID_BYTES,
  encodeCallerPayload,
  encodePing,
  EXTRA_BYTES,
  FrameType,
  HEADER_BYTES,
  writeHeader,
} from "../../src/wire/snitun/snitun_frame.ts";
import { seededSource } from "../support/seeded.ts";
import { joined } from "./mutate.ts";
import type { Target } from "./target.ts";

/** What a session may hold of a peer's bytes, with what its queues allow. */
const WRITTEN_MAX_BYTES = 8 * 1024 * 1024;

/** Headers in clear, so that mutations of them reach what is behind the cipher. */
const clear: Opener & Sealer = {
  overheadBytes: 0,
  open: (wire) => wire,
  seal: (plain) => plain,
  park() {},
};

/** Drives a session, and notes what came of it. */
class Driver implements MuxHost<ByteStream> {
  woken = false;
  openings = 0;
  endedWith: SallyportError | undefined;
  written = 0;
  delivered = 0;
  readonly hashes: Hash[] = [];
  readonly refusals = new Set<string>();
  #nowMs = 1_000;
  #restEndsMs = 0;

  write(bytes: Bytes): boolean {
    this.written += bytes.length;
    if (this.written > WRITTEN_MAX_BYTES) throw new Error(`the session wrote ${this.written} bytes`);
    return true;
  }
  wake(): void {
    this.woken = true;
  }
  arm(atMs: number): void {
    // Idle frames rest for a while.
    if (atMs <= this.#nowMs + IDLE_WINDOW_MS) this.#restEndsMs = atMs;
  }
  nowMs(): number {
    return this.#nowMs;
  }
  holdReading(): void {}
  opened(stream: ByteStream): void {
    this.openings++;
    const hash = createHash("sha1");
    this.hashes.push(hash);
    stream.attach({
      data: (chunk) => {
        this.delivered += chunk.length;
        hash.update(chunk);
      },
      // The stream stays open on this side: where it ended too, what follows the peer's end would be a fault before our
      // own FIN has left and nothing after it, so the cut would matter.
      end() {},
      drain() {},
      close() {},
    });
    stream.write(Uint8Array.of(1, 2, 3));
  }
  refused(code: string): void {
    this.refusals.add(code);
  }
  closed(): void {}
  goingAway(): void {}
  fault(error: Error): void {
    throw error;
  }
  ended(error: SallyportError): void {
    if (error.code === "internal") throw error;
    this.endedWith = error;
  }

  run(mux: Multiplexer<never>, pieces: readonly Bytes[]): string {
    mux.start();
    for (const piece of pieces) {
      mux.receive(piece);
      for (let turns = 0; (this.woken || this.#restEndsMs > 0) && turns < 100; turns++) {
        this.woken = false;
        mux.turn();
        if (this.#restEndsMs === 0) continue;
        this.#nowMs = this.#restEndsMs;
        this.#restEndsMs = 0;
        mux.tick();
      }
    }
    // What came before a session ended may be delivered or not, as the cut has it.
    if (this.endedWith !== undefined) return `ended ${this.endedWith.code}: ${this.endedWith.message}`;
    const content = this.hashes.map((hash) => hash.digest().readUInt16BE()).join(" ");
    return `${this.openings} streams, ${this.delivered} bytes (${content}), ${
      [...this.refusals].sort().join(" ")
    }`;
  }
}

/** The targets. */
export function sessionTargets(): Target[] {
  return [snitun(2), snitun(1), snitun(0), credit(), quicFrames()];
}

function snitun(protocolVersion: 0 | 1 | 2): Target {
  const random = seededSource(5);
  const frame = (id: number, type: number, payload: Bytes = new Uint8Array(0)) => {
    const header = new Uint8Array(HEADER_BYTES);
    const channel = new Uint8Array(CHANNEL_ID_BYTES).fill(id);
    writeHeader(header, 0, channel, type, payload.length, new Uint8Array(EXTRA_BYTES));
    return joined(header, payload);
  };
  const opening = protocolVersion === 2 ? encodeCallerPayload("192.0.2.1", random) : new Uint8Array(0);
  const data = new Uint8Array(50).fill(7);
  const scratch = new SendScratch();
  return {
    name: `snitun_session_v${protocolVersion}`,
    seeds: [
      joined(frame(1, FrameType.NEW, opening), frame(1, FrameType.DATA, data), frame(1, FrameType.CLOSE)),
      joined(
        frame(1, FrameType.NEW, opening),
        frame(2, FrameType.NEW, opening),
        frame(2, FrameType.DATA, data),
        frame(1, FrameType.PAUSE),
        frame(1, FrameType.DATA, data),
        frame(1, FrameType.RESUME),
      ),
      joined(encodePing("ping", random), frame(3, FrameType.DATA, data), encodePing("pong", random)),
    ],
    run(pieces) {
      const driver = new Driver();
      const options = { role: "agent", protocolVersion, sealer: clear, opener: clear, scratch } as const;
      const session = new MuxSession({ ...options, host: driver as unknown as MuxHost });
      return driver.run(session as unknown as Multiplexer<never>, pieces);
    },
  };
}

function creditSeeds(): Bytes[] {
  const open = encodeOpen(1, { address: "192.0.2.1", port: 5, serverName: "a", creditBytes: 99 });
  const data = (stream: number) => encodeCreditFrame(CreditFrame.DATA, stream, new Uint8Array(60).fill(4));
  return [
    joined(open, data(1), encodeCreditFrame(CreditFrame.FIN, 1, new Uint8Array(0))),
    joined(
      open,
      encodeOpen(3, { address: "::1", port: 0, serverName: undefined, creditBytes: 0 }),
      data(3),
      encodeReason(CreditFrame.RESET, 1, "closed"),
    ),
    joined(
      encodeCreditFrame(CreditFrame.PING, 0, new Uint8Array(8).fill(1)),
      encodeCreditFrame(CreditFrame.CREDIT, 0, Uint8Array.of(0, 1, 0, 0)),
      data(1),
      encodeReason(CreditFrame.GOAWAY, 0, "shutdown"),
    ),
  ];
}

function credit(): Target {
  const scratch = new CreditScratch();
  return {
    name: "credit_session",
    seeds: creditSeeds(),
    run(pieces) {
      const driver = new Driver();
      const host = driver as unknown as MuxHost<never>;
      const session = new CreditSession({ role: "agent", host, scratch, random: seededSource(6) });
      return driver.run(session as unknown as Multiplexer<never>, pieces);
    },
  };
}

function quicFrames(): Target {
  return {
    name: "quic_frames",
    seeds: creditSeeds(),
    run(pieces) {
      const heard: string[] = [];
      const hash = createHash("sha1");
      let unreadable: unknown;
      const framed = new FramedQuicStream({
        frame: (_framed, type, body) => void heard.push(`${type}:${body.length}`),
        dataFrame: (_framed, size) => {
          heard.push(`data ${size}`);
          return {} as never;
        },
        data: (_stream, piece) => void hash.update(piece),
        drained() {},
        ended() {},
        unreadable: (error) => unreadable ??= error,
        tired: false,
        wasteful: false,
        rests() {},
      });
      for (const piece of pieces) {
        framed.data(piece);
        if (unreadable !== undefined) throw unreadable;
      }
      return `${heard.slice(0, 20).join(" ")} ${hash.digest().readUInt16BE()}`;
    },
  };
}
