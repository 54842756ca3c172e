/**
 * The targets of one service: which are healthy, and which one the next visitor gets.
 *
 * @module
 */
import { errorMessage, internalError, SallyportError } from "../../errors.ts";
import {
  type Conn,
  type ConnectHandler,
  type Connecting,
  type ConnectOptions,
  DIAL_TIMEOUT_MS,
  type Runtime,
  type Timer,
} from "../../runtime/port.ts";
import { dialTimeoutError } from "../../runtime/shared.ts";
import type { Logger } from "../../telemetry/log.ts";
import type { TargetAttempt, TargetHandler, Targets } from "./port.ts";
import { endpointText, type Target } from "./target.ts";

/** A target that failed a visitor is tried behind the others for this long. */
export const TARGET_PENALTY_MS = 10_000;

/** A target that is reached by a connection. */
type DialledTarget = Exclude<Target, { readonly protocol: "files" }>;

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
  /** All candidates of a service with one target. */
  readonly #only: readonly Target[] | undefined;
  readonly #runtime: Runtime;
  readonly #log: Logger;

  constructor({ targets, runtime, log }: TargetPoolOptions) {
    this.#entries = targets.map((target) => ({
      target,
      unwell: false,
      penaltyUntilMs: -Infinity,
      error: undefined,
    }));
    this.#only = targets.length === 1 ? targets : undefined;
    this.#runtime = runtime;
    this.#log = log;
  }

  candidates(): readonly Target[] {
    return this.#only ?? this.#ranked();
  }

  #ranked(): readonly Target[] {
    return this.#entries.toSorted((a, b) => this.#rank(a) - this.#rank(b)).map(({ target }) => target);
  }

  report(target: Target, error?: unknown): void {
    const entry = this.#entryOf(target);
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
    const entry = this.#entryOf(target);
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

  connect(handler: TargetHandler, peerSpeaks = false): TargetAttempt {
    return new PoolAttempt(this, this.#runtime, handler, peerSpeaks).start();
  }

  dial(peerSpeaks = false): Promise<{ readonly conn: Conn; readonly target: Target }> {
    return new Promise((resolve, reject) => {
      let timer: Timer | undefined;
      const attempt = this.connect({
        reached(conn, target) {
          timer?.cancel();
          resolve({ conn, target });
        },
        unreachable(error) {
          timer?.cancel();
          reject(error);
        },
      }, peerSpeaks);
      const watch = (delayMs: number) => {
        timer = this.#runtime.clock.after(delayMs, () => {
          const leftMs = attempt.late();
          if (leftMs > 0) watch(leftMs);
        });
      };
      watch(DIAL_TIMEOUT_MS);
    });
  }

  #entryOf(target: Target): Entry | undefined {
    for (const entry of this.#entries) if (entry.target === target) return entry;
    return undefined;
  }

  /** 0 for a healthy target, 1 for one that failed a visitor recently, 2 for one that fails its health check. */
  #rank({ unwell, penaltyUntilMs }: Entry): number {
    if (unwell) return 2;
    return penaltyUntilMs > this.#runtime.clock.nowMs() ? 1 : 0;
  }
}

/** Tries a pool's targets one after another. */
class PoolAttempt implements TargetAttempt, ConnectHandler {
  readonly #pool: TargetPool;
  readonly #runtime: Runtime;
  readonly #handler: TargetHandler;
  readonly #peerSpeaks: boolean;
  readonly #candidates: readonly Target[];
  #next = 0;
  #target: DialledTarget | undefined;
  #connecting: Connecting | undefined;
  #startedMs = 0;
  #failures: string[] | undefined;

  constructor(pool: TargetPool, runtime: Runtime, handler: TargetHandler, peerSpeaks: boolean) {
    this.#pool = pool;
    this.#runtime = runtime;
    this.#handler = handler;
    this.#peerSpeaks = peerSpeaks;
    this.#candidates = pool.candidates();
  }

  start(): TargetAttempt {
    if (!this.#tryNext()) this.#giveUpSoon();
    return this;
  }

  late(): number {
    const target = this.#target;
    if (target === undefined) return 0;
    const leftMs = this.#startedMs + DIAL_TIMEOUT_MS - this.#runtime.clock.nowMs();
    if (leftMs > 0) return leftMs;
    this.#connecting!.giveUp();
    this.failed(dialTimeoutError({ ...target.endpoint, timeoutMs: DIAL_TIMEOUT_MS }));
    return this.#target === undefined ? 0 : DIAL_TIMEOUT_MS;
  }

  connected(conn: Conn): void {
    const target = this.#target!;
    this.#target = undefined;
    this.#pool.report(target);
    try {
      this.#handler.reached(conn, target);
    } catch (thrown) {
      const error = internalError("connector", thrown);
      conn.abort(error);
      this.#handler.unreachable(error);
    }
  }

  failed(error: SallyportError): void {
    const target = this.#target!;
    this.#target = undefined;
    this.#pool.report(target, error);
    (this.#failures ??= []).push(dialFault(endpointText(target.endpoint), error));
    if (!this.#tryNext()) this.#giveUp();
  }

  #tryNext(): boolean {
    while (this.#next < this.#candidates.length) {
      const target = this.#candidates[this.#next++]!;
      if (target.protocol === "files") continue;
      this.#target = target;
      this.#startedMs = this.#runtime.clock.nowMs();
      this.#connecting = this.#runtime.connect(this.#optionsOf(target), this);
      return true;
    }
    return false;
  }

  #optionsOf({ endpoint, protocol }: DialledTarget): ConnectOptions {
    if ("path" in endpoint) return endpoint;
    const { host, port } = endpoint;
    return { host, port, peerSpeaks: this.#peerSpeaks || protocol !== "tcp" };
  }

  #giveUpSoon(): void {
    queueMicrotask(() => this.#giveUp());
  }

  #giveUp(): void {
    const why = `Cannot reach endpoint ${this.#failures?.join("; ")}`;
    const options = { side: "local", retryable: true } as const;
    this.#handler.unreachable(new SallyportError("endpoint_unreachable", why, options));
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
export function dialTarget(runtime: Runtime, { endpoint }: DialledTarget, timeoutMs: number): Promise<Conn> {
  return "path" in endpoint
    ? runtime.dialUnix({ path: endpoint.path, timeoutMs })
    : runtime.dial({ ...endpoint, timeoutMs });
}
