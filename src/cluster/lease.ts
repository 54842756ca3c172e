/**
 * A tunnel's entry in a registry, kept alive as long as the tunnel.
 *
 * @module
 */
import { errorCode, errorMessage } from "../errors.ts";
import type { Clock, Timer } from "../runtime/port.ts";
import type { Logger } from "../telemetry/log.ts";
import type { TunnelRecord, TunnelRegistry } from "./registry.ts";

/** Registry of tunnels: interval at which entries are renewed; two attempts may fail. */
export const REGISTRY_RENEW_MS = 20_000;
/** Registry of tunnels: delay before a failed attempt is repeated. */
export const REGISTRY_RETRY_MS = 2_000;

/** Options of {@link TunnelLease}. */
interface LeaseOptions {
  readonly registry: TunnelRegistry;
  readonly record: TunnelRecord;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Registers a tunnel, and renews its entry until the tunnel ends. If the registry is unreachable, the lease retries and
 * the tunnel runs without it.
 */
export class TunnelLease {
  readonly #options: LeaseOptions;
  #registered = false;
  #left = false;
  #timer: Timer | undefined;
  #asking: Promise<void> = Promise.resolve();

  constructor(options: LeaseOptions) {
    this.#options = options;
  }

  /** Registers; resolves after the first attempt. */
  start(): Promise<void> {
    return this.#asking = this.#ask();
  }

  /** Removes the entry, and its name unless a successor holds it; resolves after the attempt. */
  async leave(): Promise<void> {
    this.#left = true;
    this.#timer?.cancel();
    // A request in flight would add the entry again.
    await this.#asking;
    const { registry, record } = this.#options;
    await registry.remove(record).catch((error) => this.#failed(error));
  }

  async #ask(): Promise<void> {
    const { registry, record, clock } = this.#options;
    let nextMs = REGISTRY_RENEW_MS;
    try {
      // Only the first attempt registers: renewals don't take a name from a later tunnel.
      if (this.#registered) await registry.renew(record);
      else await registry.register(record);
      this.#registered = true;
    } catch (error) {
      this.#failed(error);
      nextMs = REGISTRY_RETRY_MS;
    }
    if (this.#left) return;
    this.#timer = clock.after(nextMs, () => void (this.#asking = this.#ask()));
  }

  #failed(error: unknown): void {
    const { record, log } = this.#options;
    log.warn(
      { tunnel: record.name, reason: errorCode(error) },
      `Cannot register tunnel: ${errorMessage(error)}`,
    );
  }
}
