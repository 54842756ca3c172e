/**
 * Notifies systemd of the program's state: ready, stopping, and alive (`Type=notify` with a watchdog).
 *
 * @module
 */
import { execFile } from "node:child_process";
import type { CliIo } from "./io.ts";

/** Sends one state to the service manager, such as `READY=1`. */
type SendState = (state: string) => void;

/**
 * Uses systemd's own program, because neither runtime can send datagrams to systemd's unix socket. It notifies on
 * behalf of its parent, which `NotifyAccess=all` allows.
 */
const bySystemdNotify: SendState = (state) => {
  execFile("systemd-notify", [state], { timeout: 5_000 }, () => {});
};

/** The service manager, if one expects notifications from this process. */
export class ServiceManager {
  readonly #send: SendState | undefined;
  readonly #watchdogMs: number;
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor({ env }: Pick<CliIo, "env">, send: SendState = bySystemdNotify) {
    this.#send = env.NOTIFY_SOCKET ? send : undefined;
    this.#watchdogMs = Number(env.WATCHDOG_USEC ?? 0) / 1000;
  }

  /** All listeners are open, or the agent is dialling. */
  ready(): void {
    this.#tell("READY=1");
    if (this.#send === undefined || !(this.#watchdogMs > 0)) return;
    // The watchdog monitors the event loop: half the interval leaves room for a late tick.
    this.#timer = setInterval(() => this.#tell("WATCHDOG=1"), this.#watchdogMs / 2);
  }

  /** Shutdown has begun. */
  stopping(): void {
    clearInterval(this.#timer);
    this.#tell("STOPPING=1");
  }

  #tell(state: string): void {
    try {
      this.#send?.(state);
    } catch {
      // Deno without permission to run systemd-notify: the manager isn't notified, and its timeout reports that.
    }
  }
}
