/**
 * Tells systemd how the program is: ready, stopping, and alive (`Type=notify` with a watchdog).
 *
 * @module
 */
import { execFile } from "node:child_process";
import type { CliIo } from "./io.ts";

/** Sends one state to the service manager, such as `READY=1`. */
type SendState = (state: string) => void;

/**
 * By systemd's own program: neither runtime sends datagrams to the unix socket that systemd names. It speaks for its
 * parent, which `NotifyAccess=all` allows.
 */
const bySystemdNotify: SendState = (state) => {
  execFile("systemd-notify", [state], { timeout: 5_000 }, () => {});
};

/** The service manager, where one waits to hear of this process. */
export class ServiceManager {
  readonly #send: SendState | undefined;
  readonly #watchdogMs: number;
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor({ env }: Pick<CliIo, "env">, send: SendState = bySystemdNotify) {
    this.#send = env.NOTIFY_SOCKET ? send : undefined;
    this.#watchdogMs = Number(env.WATCHDOG_USEC ?? 0) / 1000;
  }

  /** Everything listens, or dials. */
  ready(): void {
    this.#tell("READY=1");
    if (this.#send === undefined || !(this.#watchdogMs > 0)) return;
    // The event loop is what the watchdog watches: half the time leaves room for one that is late.
    this.#timer = setInterval(() => this.#tell("WATCHDOG=1"), this.#watchdogMs / 2);
  }

  /** The end has begun. */
  stopping(): void {
    clearInterval(this.#timer);
    this.#tell("STOPPING=1");
  }

  #tell(state: string): void {
    try {
      this.#send?.(state);
    } catch {
      // Deno without the permission to run systemd-notify: the manager hears nothing, and its time-out tells.
    }
  }
}
