/**
 * Connecting with a callback, as the adapters do it, and the dials that are made of it.
 *
 * @module
 */
import { isIP } from "node:net";
import type { SallyportError } from "../errors.ts";
import { dialByName, type ResolveHost } from "./dial_by_name.ts";
import {
  type Clock,
  type Conn,
  type ConnectHandler,
  type Connecting,
  type ConnectOptions,
  DIAL_TIMEOUT_MS,
  type DialOptions,
  type DialUnixOptions,
  type Runtime,
} from "./port.ts";
import { dialError, dialTimeoutError, type Faults } from "./shared.ts";

/** One attempt to connect: tells its handler the outcome, unless it was given up. */
export class ConnectAttempt implements Connecting {
  readonly #faults: Pick<Faults, "report">;
  #handler: ConnectHandler | undefined;

  constructor(handler: ConnectHandler, faults: Pick<Faults, "report">) {
    this.#handler = handler;
    this.#faults = faults;
  }

  giveUp(): void {
    this.#handler = undefined;
  }

  /** Whether nobody waits for it any more. */
  get isOver(): boolean {
    return this.#handler === undefined;
  }

  /** Hands the connection over, or resets it if it comes too late. */
  connected(conn: Conn): void {
    const handler = this.#handler;
    this.#handler = undefined;
    if (handler === undefined) return conn.abort();
    try {
      handler.connected(conn);
    } catch (thrown) {
      conn.abort(this.#faults.report("callback", thrown));
    }
  }

  failed(error: SallyportError): void {
    const handler = this.#handler;
    this.#handler = undefined;
    try {
      handler?.failed(error);
    } catch (thrown) {
      this.#faults.report("callback", thrown);
    }
  }

  /** As {@link failed}, after the caller's own call. */
  failSoon(error: SallyportError): void {
    queueMicrotask(() => this.failed(error));
  }
}

/** What an adapter's dials are made of. */
interface DialParts {
  readonly clock: Clock;
  readonly faults: Pick<Faults, "report">;
  readonly resolve: ResolveHost;
  /** Connects to one address. */
  connect(options: ConnectOptions, handler: ConnectHandler): Connecting;
}

/** Connects within `options.timeoutMs`; rejects as `Runtime.dial`. */
export function dialWithin(
  options: DialOptions | DialUnixOptions,
  { clock, connect }: Pick<DialParts, "clock" | "connect">,
): Promise<Conn> {
  return new Promise((resolve, reject) => {
    const attempt = connect(options, {
      connected(conn) {
        timer.cancel();
        resolve(conn);
      },
      failed(error) {
        timer.cancel();
        reject(error);
      },
    });
    const timer = clock.after(options.timeoutMs, () => {
      attempt.giveUp();
      reject(dialTimeoutError(options));
    });
  });
}

/** The methods of a {@link Runtime} that connect to addresses, names and Unix sockets. */
export function dialsOver(parts: DialParts): Pick<Runtime, "connect" | "dial" | "dialUnix"> {
  const { clock, resolve, faults } = parts;
  const within = (options: DialOptions | DialUnixOptions) => dialWithin(options, parts);
  const dial = (options: DialOptions) => dialByName(options, { clock, resolve, connect: within });
  return {
    dial,
    dialUnix: within,
    connect(options, handler) {
      if ("path" in options || isIP(options.host) !== 0) return parts.connect(options, handler);
      return connectByDial(dial({ ...options, timeoutMs: DIAL_TIMEOUT_MS }), options, handler, faults);
    },
  };
}

/** A {@link Runtime.connect} whose work a dial does. */
export function connectByDial(
  dialled: Promise<Conn>,
  options: ConnectOptions,
  handler: ConnectHandler,
  faults: Pick<Faults, "report">,
): Connecting {
  const attempt = new ConnectAttempt(handler, faults);
  dialled.then((conn) => attempt.connected(conn), (cause) => attempt.failed(dialError(options, cause)));
  return attempt;
}
