/**
 * The targets of one service: which are healthy, and which one the next visitor gets.
 *
 * @module
 */
import { errorMessage, SallyportError } from "../../errors.ts";
import { type Conn, DIAL_TIMEOUT_MS, type DialOptions, type Runtime } from "../../runtime/port.ts";
import type { Logger } from "../../telemetry/log.ts";
import type { Targets } from "./port.ts";
import { endpointText, type Target } from "./target.ts";

/** A target that failed a visitor is tried behind the others for this long. */
export const TARGET_PENALTY_MS = 10_000;

/** Options of {@link TargetPool}. */
interface TargetPoolOptions {
  readonly targets: readonly Target[];
  readonly runtime: Runtime;
  readonly log: Logger;
}

/** A target's status in `agent status`. */
export interface TargetFacts {
  readonly target: string;
  /** Whether visitors are sent to it; if no target is healthy, all are used. */
  readonly up: boolean;
  /** Why it is down, or the last failure. */
  readonly error?: string;
}

interface Entry {
  readonly target: Target;
  /** Whether its health check has failed. */
  unwell: boolean;
  /** After failing a visitor it is tried last until this time. */
  penaltyUntilMs: number;
  error: string | undefined;
}

/** Tracks the state of each target. */
export class TargetPool implements Targets {
  readonly #entries: readonly Entry[];
  readonly #runtime: Runtime;
  readonly #log: Logger;

  constructor({ targets, runtime, log }: TargetPoolOptions) {
    this.#entries = targets.map((target) => ({
      target,
      unwell: false,
      penaltyUntilMs: -Infinity,
      error: undefined,
    }));
    this.#runtime = runtime;
    this.#log = log;
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
      entry.error = faultOf(error);
    }
  }

  /** Records the result of a health check. */
  checked(target: Target, error?: unknown): void {
    const entry = this.#entries.find((candidate) => candidate.target === target);
    if (entry === undefined) return;
    const unwell = error !== undefined;
    const why = unwell ? faultOf(error) : undefined;
    if (unwell !== entry.unwell) {
      const fields = { target: target.text };
      if (unwell) this.#log.warn(fields, `Target ${target.text} fails its health check: ${why}`);
      else this.#log.info(fields, `Target ${target.text} passes its health check again`);
    }
    entry.unwell = unwell;
    entry.error = why;
    if (!unwell) entry.penaltyUntilMs = -Infinity;
  }

  /** Status of each target, in the service's order. */
  get facts(): readonly TargetFacts[] {
    return this.#entries.map((entry) => ({
      target: entry.target.text,
      up: this.#rank(entry) === 0,
      ...entry.error === undefined ? {} : { error: entry.error },
    }));
  }

  async dial(peerSpeaks = false): Promise<{ readonly conn: Conn; readonly target: Target }> {
    const failures: string[] = [];
    for (const target of this.candidates()) {
      if (target.protocol === "files") continue;
      try {
        const conn = await dialTarget(this.#runtime, target, { peerSpeaks });
        this.report(target);
        return { conn, target };
      } catch (error) {
        this.report(target, error);
        failures.push(dialFault(endpointText(target.endpoint), error));
      }
    }
    throw new SallyportError("endpoint_unreachable", `Cannot reach endpoint ${failures.join("; ")}`, {
      side: "local",
      retryable: true,
    });
  }

  /** 0 for a healthy target, 1 for one that failed a visitor recently, 2 for one that fails its health check. */
  #rank({ unwell, penaltyUntilMs }: Entry): number {
    if (unwell) return 2;
    return penaltyUntilMs > this.#runtime.clock.nowMs() ? 1 : 0;
  }
}

/** A target's fault for lines and reports that name the target already. */
function faultOf(error: unknown): string {
  return errorMessage(error).replace(/^Cannot connect to \S+: /, "");
}

/** An endpoint and why it can't be dialled; most errors name it themselves. */
export function dialFault(endpoint: string, error: unknown): string {
  const message = errorMessage(error).replace(/^Cannot connect to /, "");
  return message.startsWith(`${endpoint}: `) ? message : `${endpoint}: ${message}`;
}

/** Connects to a target; rejects as `Runtime.dial` does. */
export function dialTarget(
  runtime: Runtime,
  { endpoint, protocol }: Exclude<Target, { readonly protocol: "files" }>,
  { timeoutMs = DIAL_TIMEOUT_MS, peerSpeaks = false }: Partial<
    Pick<DialOptions, "timeoutMs" | "peerSpeaks">
  > = {},
): Promise<Conn> {
  return "path" in endpoint
    ? runtime.dialUnix({ path: endpoint.path, timeoutMs })
    : runtime.dial({ ...endpoint, timeoutMs, peerSpeaks: peerSpeaks || protocol !== "tcp" });
}
