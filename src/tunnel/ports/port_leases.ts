/**
 * Leases of public ports: the next client gets the lowest free port, until its lease ends.
 *
 * @module
 */
import { errorCode, SallyportError } from "../../errors.ts";

/** How long a lost port stays reserved for its holder. */
export const PORT_HELD_MS = 300_000;

/** A leased port. */
export interface PortLease<T> {
  readonly port: number;
  /** The listener opened on it. */
  readonly opened: T;
  /**
   * Releases the port; close `opened` first. Later calls do nothing.
   *
   * @param lost the holder lost the port involuntarily: it stays reserved for it for PORT_HELD_MS
   */
  free(lost?: boolean): void;
}

/** A range of ports, both ends included. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** Ports of a range that are leased out. */
export class PortLeases {
  readonly #range: PortRange;
  readonly #taken = new Set<number>();
  /** The last holder of each port. */
  readonly #holders = new Map<number, string>();
  /** When the reservation of each lost port ends. */
  readonly #keptUntilMs = new Map<number, number>();
  /** Ports reserved for the holders with a claim to them. */
  readonly #reserved = new Map<number, Set<string>>();
  readonly #nowMs: () => number;

  /**
   * @param nowMs monotonic milliseconds; if absent, no lost port is reserved
   * @throws SallyportError `config_invalid` when the range is invalid.
   */
  constructor(range: PortRange, nowMs: () => number = () => Infinity) {
    this.#range = range;
    this.#nowMs = nowMs;
    const { first, last } = range;
    if (
      !(Number.isInteger(first) && Number.isInteger(last) && 1 <= first && first <= last && last <= 65_535)
    ) {
      const message = `Cannot lease ports: ${first}:${last} isn't a range, for example 8080:8090`;
      throw new SallyportError("config_invalid", message, { side: "config" });
    }
  }

  /** How many ports the range has. */
  get size(): number {
    return this.#range.last - this.#range.first + 1;
  }

  /** How many of them are leased. */
  get leased(): number {
    return this.#taken.size;
  }

  /** Keeps a port for holders that have a claim to it, from now on. */
  reserve(port: number, holder: string): void {
    let holders = this.#reserved.get(port);
    if (holders === undefined) this.#reserved.set(port, holders = new Set());
    holders.add(holder);
  }

  /** The current or last holder of a port. */
  lastHolder(port: number): string | undefined {
    return this.#holders.get(port);
  }

  /** Whether a port isn't reserved for another holder, by claim or recent loss. */
  #mayHave(port: number, holder: string | undefined): boolean {
    const claimed = this.#reserved.get(port);
    if (claimed !== undefined) return holder !== undefined && claimed.has(holder);
    return this.#holders.get(port) === holder ||
      !((this.#keptUntilMs.get(port) ?? -Infinity) > this.#nowMs());
  }

  /**
   * Leases a port: `wished`, or the lowest free one. Ports of the range that another program on this machine has open
   * are skipped.
   *
   * @param open Opens the port; rejects with `address_in_use` when it is open already.
   * @param holder A name. A named holder gets the port it had last, else a never-used one if available, so that a noted
   * address doesn't lead to another device.
   * @throws SallyportError `limit_exceeded` when there is none, `access_denied` when the wished one is outside the
   * range, `address_in_use` when it is taken, or the error of `open`.
   */
  async lease<T>(
    open: (port: number) => Promise<T>,
    wished?: number,
    holder?: string,
  ): Promise<PortLease<T>> {
    const { first, last } = this.#range;
    if (wished !== undefined && (wished < first || wished > last)) {
      throw refused("access_denied", `${wished} lies outside ${first}:${last}`);
    }
    for (const port of wished === undefined ? this.#inOrder(holder) : [wished]) {
      if (this.#taken.has(port) || !this.#mayHave(port, holder)) continue;
      // Taken before waiting: concurrent requests get the next one.
      this.#taken.add(port);
      try {
        const opened = await open(port);
        if (holder !== undefined) this.#holders.set(port, holder);
        const free = (lost = false) => {
          this.#taken.delete(port);
          if (lost && holder !== undefined) this.#keptUntilMs.set(port, this.#nowMs() + PORT_HELD_MS);
          else this.#keptUntilMs.delete(port);
        };
        return { port, opened, free: once(free) };
      } catch (error) {
        this.#taken.delete(port);
        if (errorCode(error) !== "address_in_use") throw error;
      }
    }
    if (wished !== undefined) throw refused("address_in_use", `${wished} is taken`);
    throw refused("limit_exceeded", `all of ${first}:${last} are taken`);
  }

  /** All ports, in the order of preference for this holder. */
  *#inOrder(holder: string | undefined): Generator<number> {
    const { first, last } = this.#range;
    const rank = (port: number) => {
      const before = holder === undefined ? undefined : this.#holders.get(port);
      return before === undefined ? 1 : before === holder ? 0 : 2;
    };
    for (const wanted of [0, 1, 2]) {
      for (let port = first; port <= last; port++) if (rank(port) === wanted) yield port;
    }
  }
}

function once(run: (lost?: boolean) => void): (lost?: boolean) => void {
  let done = false;
  return (lost) => {
    if (!done) run(lost);
    done = true;
  };
}

function refused(code: "access_denied" | "address_in_use" | "limit_exceeded", why: string): SallyportError {
  return new SallyportError(code, `Cannot lease a public port: ${why}`, { side: "local", retryable: true });
}
