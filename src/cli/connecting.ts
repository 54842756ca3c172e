/**
 * Progress messages of an agent's first connection, so that the terminal isn't silent.
 *
 * @module
 */
import type { Clock, Timer } from "../runtime/port.ts";
import type { Logger } from "../telemetry/log.ts";
import { formatHostPort, type HostPort } from "../wire/ip/host_port.ts";

/** A server that has been silent for this long is probably not an edge. */
export const SILENT_EDGE_MS = 5_000;

/** Reports the steps of the first connection. */
export class Connecting {
  readonly #clock: Clock;
  readonly #log: Logger;
  /** Steps already reported, since a retry repeats them. */
  readonly #told = new Set<string>();
  #timer: Timer | undefined;
  #over = false;

  constructor(clock: Clock, log: Logger) {
    this.#clock = clock;
    this.#log = log;
  }

  /** A token is being requested. */
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

  /** A session is established: nothing more is reported. */
  done(): void {
    this.#over = true;
    this.#timer?.cancel();
  }
}
