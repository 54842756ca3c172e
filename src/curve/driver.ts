/**
 * Clock and socket under the curve core: turns, timers, and datagrams out.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import type { RandomSource } from "../crypto/random.ts";
import type { Address, Clock, DatagramSocket, Timer } from "../runtime/port.ts";
import type { CurveConnection } from "./connection.ts";
import type { CurveIo } from "./connection_host.ts";
import { DATAGRAM_MAX_BYTES } from "./options.ts";

/** Something with a deadline. */
export interface Driven {
  readonly deadlineMs: number;
  turn(nowMs: number): void;
  tick(nowMs: number): void;
}

/** One timer for something driven; it is set anew only when the deadline comes nearer. */
export class DrivenTimer {
  readonly #clock: Clock;
  readonly #driven: Driven;
  readonly #after: () => void;
  #timer: Timer | undefined;
  #armedMs = Infinity;

  /** @param after called behind every tick. */
  constructor(clock: Clock, driven: Driven, after: () => void) {
    this.#clock = clock;
    this.#driven = driven;
    this.#after = after;
  }

  /** Looks at the deadline. */
  arm(): void {
    const atMs = this.#driven.deadlineMs;
    if (atMs >= this.#armedMs) return;
    this.#timer?.cancel();
    this.#armedMs = atMs;
    this.#timer = this.#clock.after(Math.max(0, atMs - this.#clock.nowMs()), this.#due);
  }

  /** No more ticks. */
  stop(): void {
    this.#timer?.cancel();
    this.#armedMs = -Infinity;
  }

  readonly #due = (): void => {
    if (this.#armedMs === -Infinity) return;
    this.#armedMs = Infinity;
    const nowMs = this.#clock.nowMs();
    if (nowMs >= this.#driven.deadlineMs) {
      this.#driven.tick(nowMs);
      this.#after();
    }
    this.arm();
  };
}

/** What a socket's connections share: buffers, and the queue of those that want a turn. */
export class SocketIo implements CurveIo {
  readonly plain: Bytes = new Uint8Array(DATAGRAM_MAX_BYTES);
  readonly random: RandomSource;
  socket: DatagramSocket | undefined;
  /** Datagrams that the socket didn't take. */
  refused = 0;
  readonly #clock: Clock;
  readonly #slot: Bytes = new Uint8Array(DATAGRAM_MAX_BYTES);
  readonly #turn: (connection: CurveConnection) => void;
  #waiting: CurveConnection[] = [];
  #next: CurveConnection[] = [];
  #soon = false;

  /** @param turn gives a connection its turn. */
  constructor(clock: Clock, random: RandomSource, turn: (connection: CurveConnection) => void) {
    this.#clock = clock;
    this.random = random;
    this.#turn = turn;
  }

  slot(): Bytes {
    return this.#slot;
  }

  send(size: number, to: Address): void {
    if (this.socket?.send(this.#slot.subarray(0, size), to) !== true) this.refused++;
  }

  wake(connection: CurveConnection): void {
    if (connection.awake) return;
    connection.awake = true;
    this.#waiting.push(connection);
    if (this.#soon) return;
    this.#soon = true;
    this.#clock.soon(this.#run);
  }

  readonly #run = (): void => {
    this.#soon = false;
    const turns = this.#waiting;
    this.#waiting = this.#next;
    for (const connection of turns) {
      connection.awake = false;
      this.#turn(connection);
    }
    turns.length = 0;
    this.#next = turns;
  };
}
