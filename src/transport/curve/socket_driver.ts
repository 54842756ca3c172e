/**
 * Clock and socket for the curve core: turns, timers and outgoing datagrams.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { ViewCache } from "../../bytes/view_cache.ts";
import { internalError } from "../../errors.ts";
import type { RandomSource } from "../../crypto/random.ts";
import type { Address, Clock, DatagramSocket, Timer } from "../../runtime/port.ts";
import type { CurveConnection, CurveIo } from "../../protocol/curve/connection.ts";
import { DATAGRAM_MAX_BYTES } from "../../protocol/curve/options.ts";

/** An object with a deadline. */
interface Driven {
  readonly deadlineMs: number;
  turn(nowMs: number): void;
  tick(nowMs: number): void;
}

/** One timer for a driven object; rearmed only when the deadline moves earlier. */
export class DrivenTimer {
  readonly #clock: Clock;
  readonly #driven: Driven;
  readonly #connection: CurveConnection;
  readonly #after: () => void;
  #timer: Timer | undefined;
  #armedMs = Infinity;

  /** @param after called after every tick. */
  constructor(clock: Clock, driven: Driven, connection: CurveConnection, after: () => void) {
    this.#clock = clock;
    this.#driven = driven;
    this.#connection = connection;
    this.#after = after;
  }

  /** Rearms for the current deadline; a connection waiting for its turn is rearmed after that turn. */
  arm(): void {
    if (this.#connection.awake) return;
    const atMs = this.#driven.deadlineMs;
    if (atMs >= this.#armedMs) return;
    this.#timer?.cancel();
    this.#armedMs = atMs;
    this.#timer = this.#clock.after(Math.max(0, atMs - this.#clock.nowMs()), this.#due);
  }

  /** Stops ticking. */
  stop(): void {
    this.#timer?.cancel();
    this.#armedMs = -Infinity;
  }

  readonly #due = (): void => {
    if (this.#armedMs === -Infinity) return;
    this.#armedMs = Infinity;
    const nowMs = this.#clock.nowMs();
    if (nowMs >= this.#driven.deadlineMs) {
      guarded(this.#connection, () => this.#driven.tick(nowMs));
      this.#after();
    }
    this.arm();
  };
}

/** If an owner's handler throws, only its own connection fails, not the socket's others. */
function guarded(connection: CurveConnection, run: () => void): void {
  try {
    run();
  } catch (cause) {
    connection.close(internalError("session", cause));
  }
}

/** Datagrams handed to the socket in one call. */
const BATCH = 32;
/**
 * Datagrams sent per turn before incoming ones are read: a server's acknowledgements would overflow its receive buffer
 * while hundreds of connections send, and Deno's socket takes about a hundred at once.
 */
const DATAGRAMS_PER_TURN = 64;
/** Retry delay when the socket is still full in the next turn. */
const FULL_RETRY_MS = 1;

/**
 * State shared by a socket's connections: buffers, outgoing datagrams, and the queue of connections waiting for a turn.
 */
export class SocketIo implements CurveIo {
  readonly plain: Bytes = new Uint8Array(DATAGRAM_MAX_BYTES);
  readonly random: RandomSource;
  socket: DatagramSocket | undefined;
  /** Datagrams that the socket didn't take. */
  refused = 0;
  readonly #clock: Clock;
  readonly #turn: (connection: CurveConnection) => void;
  readonly #slotBytes: number;
  readonly #slots: Bytes[] = [];
  readonly #views: ViewCache[] = [];
  readonly #data: Bytes[] = [];
  readonly #to: Address[] = [];
  #count = 0;
  #waiting: CurveConnection[] = [];
  /** Connections in the current round, from `#at` on. */
  #round: CurveConnection[] = [];
  #at = 0;
  /** Datagrams sent in this turn. */
  #sent = 0;
  #soon = false;
  /** Whether the socket was full in the last turn. */
  #full = false;
  /** Whether the socket took fewer datagrams than offered. */
  #short = false;

  /**
   * @param datagramBytes the largest datagram that will be sent
   * @param turn runs a connection's turn
   */
  constructor(
    clock: Clock,
    random: RandomSource,
    datagramBytes: number,
    turn: (connection: CurveConnection) => void,
  ) {
    this.#clock = clock;
    this.random = random;
    this.#slotBytes = datagramBytes;
    this.#turn = turn;
  }

  slot(): Bytes {
    const slot = this.#slots[this.#count];
    if (slot !== undefined) return slot;
    const made = new Uint8Array(this.#slotBytes);
    this.#slots.push(made);
    this.#views.push(new ViewCache());
    return made;
  }

  send(size: number, to: Address): void {
    const at = this.#count++;
    this.#sent++;
    this.#data[at] = this.#views[at]!.view(this.#slots[at]!, 0, size);
    this.#to[at] = to;
    if (this.#count === BATCH) this.flush();
    else this.#later();
  }

  /** Hands queued datagrams to the socket. */
  flush(): void {
    const count = this.#count;
    if (count === 0) return;
    this.#count = 0;
    const refused = count - (this.socket?.sendMany(this.#data, this.#to, count) ?? 0);
    this.refused += refused;
    if (refused > 0) this.#short = true;
  }

  wake(connection: CurveConnection): void {
    if (connection.awake) return;
    connection.awake = true;
    this.#waiting.push(connection);
    this.#later();
  }

  #later(): void {
    if (this.#soon) return;
    this.#soon = true;
    this.#clock.soon(this.#run);
  }

  readonly #run = (): void => {
    if (this.#short || (this.socket?.waiting ?? 0) > 0) {
      this.#short = false;
      if (this.#full) this.#clock.after(FULL_RETRY_MS, this.#run);
      else this.#clock.soon(this.#run);
      this.#full = true;
      return;
    }
    this.#full = false;
    this.#sent = 0;
    if (this.#at === this.#round.length) {
      const done = this.#round;
      done.length = this.#at = 0;
      this.#round = this.#waiting;
      this.#waiting = done;
    }
    while (this.#at < this.#round.length && this.#sent < DATAGRAMS_PER_TURN) {
      const connection = this.#round[this.#at++]!;
      connection.awake = false;
      guarded(connection, () => this.#turn(connection));
    }
    this.flush();
    this.#soon = false;
    // Some connections need another turn, after incoming datagrams.
    if (this.#at < this.#round.length || this.#waiting.length > 0) this.#later();
  };
}
