/**
 * What an agent says while it connects for the first time, so that nobody looks at a silent terminal.
 *
 * @module
 */
import { formatHostPort, type HostPort } from "../config/config.ts";
import type { Clock, Timer } from "../runtime/port.ts";
import type { Logger } from "../telemetry/log.ts";

/** An edge that has said nothing for so long is probably none. */
export const SILENT_EDGE_MS = 5_000;

/** Tells the steps of the first connection. */
export class Connecting {
  readonly #clock: Clock;
  readonly #log: Logger;
  /** Steps that have been told: an attempt that follows a failed one takes the same. */
  readonly #told = new Set<string>();
  #timer: Timer | undefined;
  #over = false;

  constructor(clock: Clock, log: Logger) {
    this.#clock = clock;
    this.#log = log;
  }

  /** A token is being asked for. */
  asksMaster(master: string): void {
    if (this.#over || !this.#isNew(`master ${master}`)) return;
    this.#log.info({ master }, "asking the session master for a token");
  }

  /** An edge is being dialled. */
  dials(edge: HostPort, transport: string): void {
    if (this.#over) return;
    const at = formatHostPort(edge);
    if (this.#isNew(`edge ${at} ${transport}`)) {
      this.#log.info({ edge: at, transport }, "connecting to the edge");
    }
    this.#timer?.cancel();
    this.#timer = this.#clock.after(SILENT_EDGE_MS, () => {
      this.#log.warn(
        { edge: at, transport },
        `no answer from ${at} yet: is it an edge's port for agents? --edge HOST:PORT names another, and ` +
          "--transport must be one that listens there",
      );
    });
  }

  #isNew(step: string): boolean {
    const { size } = this.#told;
    return this.#told.add(step).size > size;
  }

  /** A session stands: nothing more is told. */
  done(): void {
    this.#over = true;
    this.#timer?.cancel();
  }
}
