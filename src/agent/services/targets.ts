/**
 * The targets of one service: which are well, and which one the next visitor gets.
 *
 * @module
 */
import { errorMessage, SallyportError } from "../../errors.ts";
import { type Conn, DIAL_TIMEOUT_MS, type Runtime } from "../../runtime/port.ts";
import type { Logger } from "../../telemetry/log.ts";
import { LogSampler } from "../../telemetry/log_sampler.ts";
import type { Targets } from "./port.ts";
import { endpointText, type Target } from "./target.ts";

/** A target that failed a visitor is tried behind the others for this long. */
export const TARGET_PENALTY_MS = 10_000;

/** What {@link TargetPool} works with. */
interface TargetPoolOptions {
  readonly targets: readonly Target[];
  readonly runtime: Runtime;
  readonly log: Logger;
}

/** A target as `agent status` shows it. */
export interface TargetFacts {
  readonly target: string;
  /** Whether visitors are sent there; all are where none is well. */
  readonly up: boolean;
  /** Why it isn't, or the last failure. */
  readonly error?: string;
}

interface Entry {
  readonly target: Target;
  /** Its health check has failed. */
  unwell: boolean;
  /** It has failed a visitor, and is tried last until then. */
  penaltyUntilMs: number;
  error: string | undefined;
}

/** Keeps what is known of each target. */
export class TargetPool implements Targets {
  readonly #entries: readonly Entry[];
  readonly #runtime: Runtime;
  readonly #log: Logger;
  /** For what every visitor of a target that is down would say again. */
  readonly #sampler: LogSampler;

  constructor({ targets, runtime, log }: TargetPoolOptions) {
    this.#entries = targets.map((target) => ({
      target,
      unwell: false,
      penaltyUntilMs: -Infinity,
      error: undefined,
    }));
    this.#runtime = runtime;
    this.#log = log;
    this.#sampler = new LogSampler({ log, clock: runtime.clock });
  }

  candidates(): readonly Target[] {
    if (this.#entries.length === 1) return [this.#entries[0]!.target];
    return this.#entries.toSorted((a, b) => this.#rank(a) - this.#rank(b)).map(({ target }) => target);
  }

  report(target: Target, error?: unknown): void {
    const entry = this.#entries.find((candidate) => candidate.target === target);
    if (entry === undefined) return;
    if (error === undefined) {
      entry.penaltyUntilMs = -Infinity;
      if (!entry.unwell) entry.error = undefined;
    } else {
      entry.penaltyUntilMs = this.#runtime.clock.nowMs() + TARGET_PENALTY_MS;
      entry.error = errorMessage(error);
    }
  }

  /** What a health check found. */
  checked(target: Target, error?: unknown): void {
    const entry = this.#entries.find((candidate) => candidate.target === target);
    if (entry === undefined) return;
    const unwell = error !== undefined;
    const why = unwell ? errorMessage(error) : undefined;
    if (unwell !== entry.unwell) {
      const fields = { target: target.text };
      if (unwell) this.#log.warn(fields, `Target ${target.text} fails its health check: ${why}`);
      else this.#log.info(fields, `Target ${target.text} passes its health check again`);
    }
    entry.unwell = unwell;
    entry.error = why;
    if (!unwell) entry.penaltyUntilMs = -Infinity;
  }

  /** What is known of each target, in the order of the service. */
  get facts(): readonly TargetFacts[] {
    return this.#entries.map((entry) => ({
      target: entry.target.text,
      up: this.#rank(entry) === 0,
      ...entry.error === undefined ? {} : { error: entry.error },
    }));
  }

  async dial(): Promise<{ readonly conn: Conn; readonly target: Target }> {
    const failures: string[] = [];
    for (const target of this.candidates()) {
      if (target.protocol === "files") continue;
      try {
        const conn = await dialTarget(this.#runtime, target);
        this.report(target);
        return { conn, target };
      } catch (error) {
        this.report(target, error);
        failures.push(`${endpointText(target.endpoint)}: ${errorMessage(error)}`);
      }
    }
    const error = new SallyportError("endpoint_unreachable", `Cannot reach endpoint ${failures.join("; ")}`, {
      side: "local",
      retryable: true,
    });
    this.#sampler.warn(error.code, { reason: error.code }, error.message);
    throw error;
  }

  /** 0 for a target that is well, 1 for one that failed a visitor lately, 2 for one that fails its health check. */
  #rank({ unwell, penaltyUntilMs }: Entry): number {
    if (unwell) return 2;
    return penaltyUntilMs > this.#runtime.clock.nowMs() ? 1 : 0;
  }
}

/** Connects to a target; rejects as `Runtime.dial`. */
export function dialTarget(
  runtime: Runtime,
  { endpoint }: Exclude<Target, { readonly protocol: "files" }>,
  timeoutMs: number = DIAL_TIMEOUT_MS,
): Promise<Conn> {
  return "path" in endpoint
    ? runtime.dialUnix({ path: endpoint.path, timeoutMs })
    : runtime.dial({ ...endpoint, timeoutMs });
}
