/**
 * A peer that has logged in and then sends what it likes: frames of its own making over SniTun, or over the sealed
 * transport.
 *
 * @module
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import type { Bytes } from "../../src/bytes/bytes.ts";
import {
  createOpener,
  createSealer,
  type Opener,
  type Role,
  type Sealer,
} from "../../src/crypto/header_cipher.ts";
import { RandomPool } from "../../src/crypto/random.ts";
import { loginProof } from "../../src/protocol/handshake/login_proof.ts";
import { AgentChallenge } from "../../src/protocol/handshake/snitun_challenge.ts";
import type { RecordSealer } from "../../src/protocol/records/sealed_records.ts";
import type { CreatedToken } from "../../src/protocol/token/token.ts";
import { encodeCreditFrame } from "../../src/wire/credit/credit_frame.ts";
import {
  channelIdOf,
  encodeCallerPayload,
  EXTRA_BYTES,
  frameSize,
  FrameType,
  frameType,
  HEADER_BYTES,
  newChannelId,
  writeHeader,
} from "../../src/wire/snitun/snitun_frame.ts";
import { logInSealed } from "./sealed_login.ts";

const pool = new RandomPool(65_536);

/** A frame of SniTun's; random where a part is absent. */
export interface LooseFrame {
  readonly type: number;
  readonly id?: Bytes;
  /** What the header says; the payload's length when absent. */
  readonly size?: number;
  readonly extra?: Bytes;
  readonly payload?: Bytes;
}

/** What hostile sessions of both dialects have in common. */
export abstract class HostileSession {
  readonly socket: Socket;
  /** Resolves when the other side has ended the session. */
  readonly ended: Promise<void>;
  over = false;
  /** Frames sent. */
  frames = 0;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on("error", () => {});
    this.ended = new Promise((resolve) => {
      socket.once("close", () => {
        this.over = true;
        resolve();
      });
    });
  }

  /** Writes bytes, and waits while the other side takes none. */
  async write(bytes: Uint8Array): Promise<void> {
    if (this.over) return;
    if (!this.socket.write(bytes)) {
      await Promise.race([once(this.socket, "drain").catch(() => {}), this.ended]);
    }
  }

  /** Ends it from this side. */
  stop(): void {
    this.socket.destroy();
  }
}

/** A SniTun session of which this side makes every frame. */
export class HostileSnitun extends HostileSession {
  readonly #sealer: Sealer;
  readonly #opener: Opener;
  #unread: Bytes = new Uint8Array(0);
  #skip = 0;
  /** Hears of each frame's header, in clear. */
  heard: (type: number, id: Bytes, size: number) => void = () => {};

  constructor(socket: Socket, sealer: Sealer, opener: Opener) {
    super(socket);
    this.#sealer = sealer;
    this.#opener = opener;
  }

  /** Logs in at an edge with AES-CBC and protocol version 2. */
  static async login(port: number, { token, claims }: CreatedToken): Promise<HostileSnitun> {
    const { aesKey, aesIv } = claims;
    const sealer = createSealer("aes-cbc", aesKey, aesIv, "agent");
    const opener = createOpener("aes-cbc", aesKey, aesIv, "edge");
    const challenge = new AgentChallenge(sealer, opener);
    const socket = connect(port, "127.0.0.1");
    const session = new HostileSnitun(socket, sealer, opener);
    socket.write(token);
    for (;;) {
      const [chunk] = await Promise.race([once(socket, "data"), session.ended.then(() => [undefined])]);
      if (chunk === undefined) throw new Error("the edge has refused the hostile agent");
      const challenged = challenge.push(new Uint8Array(chunk as Buffer));
      if (challenged === undefined) continue;
      socket.write(challenged.answer);
      socket.on("data", (more: Buffer) => session.#take(new Uint8Array(more)));
      session.#take(challenged.rest);
      return session;
    }
  }

  /** Takes a side of a session whose challenge is over. */
  static of(socket: Socket, sealer: Sealer, opener: Opener): HostileSnitun {
    const session = new HostileSnitun(socket, sealer, opener);
    socket.on("data", (more: Buffer) => session.#take(new Uint8Array(more)));
    return session;
  }

  /** The wire's bytes of these frames, sealed together; to be sent in the order in which they were made. */
  seal(frames: readonly LooseFrame[]): Bytes {
    const parts: Uint8Array[] = [];
    const header = new Uint8Array(HEADER_BYTES);
    const extra = new Uint8Array(EXTRA_BYTES);
    if (frames.every(({ payload }) => payload === undefined)) {
      const headers = new Uint8Array(frames.length * HEADER_BYTES);
      for (const [index, frame] of frames.entries()) {
        pool.fill(extra);
        const { type, size = 0, id = newChannelId(pool) } = frame;
        writeHeader(headers, index * HEADER_BYTES, id, type, size, frame.extra ?? extra);
      }
      return this.#sealer.seal(headers, HEADER_BYTES).slice();
    }
    for (const frame of frames) {
      pool.fill(extra);
      const { type, payload, id = newChannelId(pool), size = payload?.length ?? 0 } = frame;
      writeHeader(header, 0, id, type, size, frame.extra ?? extra);
      parts.push(this.#sealer.seal(header, HEADER_BYTES).slice());
      if (payload === undefined) continue;
      parts.push(type === FrameType.NEW ? this.#sealer.seal(payload, payload.length).slice() : payload);
    }
    return new Uint8Array(Buffer.concat(parts));
  }

  /** Sends these frames. */
  send(...frames: readonly LooseFrame[]): Promise<void> {
    this.frames += frames.length;
    return this.write(this.seal(frames));
  }

  /** NEW with an address, as version 2 has it. */
  static open(id?: Bytes): LooseFrame {
    return {
      type: FrameType.NEW,
      payload: encodeCallerPayload("192.0.2.1", pool),
      ...id === undefined ? {} : { id },
    };
  }

  #take(bytes: Bytes): void {
    this.#unread = new Uint8Array(Buffer.concat([this.#unread, bytes]));
    for (;;) {
      const skipped = Math.min(this.#skip, this.#unread.length);
      this.#skip -= skipped;
      this.#unread = this.#unread.subarray(skipped);
      if (this.#skip > 0 || this.#unread.length < HEADER_BYTES) return;
      const header = this.#opener.open(this.#unread.slice(0, HEADER_BYTES)).slice();
      this.#unread = this.#unread.subarray(HEADER_BYTES);
      const size = frameSize(header);
      const type = frameType(header);
      if (type === FrameType.NEW && size > 0) {
        // A sealed unit of its own, which always comes with its header.
        if (this.#unread.length < size) return void this.socket.destroy();
        this.#opener.open(this.#unread.slice(0, size));
        this.#unread = this.#unread.subarray(size);
      } else if (type === FrameType.DATA) this.#skip = size;
      this.heard(type, channelIdOf(header), size);
    }
  }
}

/** A session over the sealed transport of which this side makes every frame of the credit dialect. */
export class HostileSealed extends HostileSession {
  readonly #sealer: RecordSealer;

  private constructor(socket: Socket, sealer: RecordSealer) {
    super(socket);
    this.#sealer = sealer;
  }

  /** Logs in at an edge with this public key. */
  static async login(port: number, edgeKey: Bytes, created: CreatedToken): Promise<HostileSealed> {
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => {});
    const { token, claims } = created;
    const { refused, sealer } = await logInSealed({
      edgeKey,
      token,
      unixSeconds: Math.floor(Date.now() / 1000),
      prove: (channel) =>
        loginProof(claims.aesKey, new TextEncoder().encode(token), { transport: "sealed", edgeKey, channel }),
      write: (bytes) => void socket.write(bytes),
      next: async () => new Uint8Array((await once(socket, "data"))[0] as Buffer),
    });
    if (refused !== undefined) throw new Error(`the edge has refused the hostile agent: ${refused}`);
    const session = new HostileSealed(socket, sealer);
    socket.on("data", () => {});
    return session;
  }

  /** Sends frames of the credit dialect in one record after another. */
  send(...frames: readonly (readonly [type: number, stream: number, body?: Bytes])[]): Promise<void> {
    this.frames += frames.length;
    const bytes = Buffer.concat(
      frames.map(([type, stream, body]) => encodeCreditFrame(type, stream, body ?? NOTHING)),
    );
    const records: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; at += RECORD_BYTES) {
      records.push(this.#sealer.seal(new Uint8Array(bytes.subarray(at, at + RECORD_BYTES))).slice());
    }
    return this.write(Buffer.concat(records));
  }
}

const NOTHING: Bytes = new Uint8Array(0);
const RECORD_BYTES = 16 * 1024;

/** A role's own and its peer's cipher. */
export function ciphersOf({ claims }: CreatedToken, role: Role): { sealer: Sealer; opener: Opener } {
  const { aesKey, aesIv } = claims;
  const other = role === "edge" ? "agent" : "edge";
  return {
    sealer: createSealer("aes-cbc", aesKey, aesIv, role),
    opener: createOpener("aes-cbc", aesKey, aesIv, other),
  };
}
