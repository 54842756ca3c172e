/**
 * Dials through a proxy: HTTP's CONNECT (RFC 9110 §9.3.6) or SOCKS 5 (RFC 1928, RFC 1929). The proxy resolves names.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { isIPv4, isIPv6 } from "node:net";
import { type Bytes, concat } from "../bytes/bytes.ts";
import { type ErrorCode, errorCode, errorMessage, SallyportError } from "../errors.ts";
import { connectByDial } from "./connect.ts";
import {
  type ByteStreamHandler,
  type Conn,
  DIAL_TIMEOUT_MS,
  type DialOptions,
  type Runtime,
  type Timer,
} from "./port.ts";
import { dialTimeoutError, Faults } from "./shared.ts";
import { formatHostPort } from "../wire/ip/host_port.ts";

/** Maximum size of a proxy's response to CONNECT, including its header. */
export const PROXY_ANSWER_MAX_BYTES = 16 * 1024;

/** A proxy to dial through. */
export interface Proxy {
  readonly kind: "http" | "socks5";
  readonly host: string;
  readonly port: number;
  readonly user?: string;
  readonly password?: string;
}

/** Formats a proxy for messages, without credentials. */
export function proxyText({ kind, host, port }: Proxy): string {
  return `${kind}://${formatHostPort({ host, port })}`;
}

/**
 * Routes all TCP connections of the runtime through the proxy. UDP isn't supported: datagram sockets and QUIC reject
 * with `not_supported`.
 */
export function throughProxy(runtime: Runtime, proxy: Proxy): Runtime {
  const unable = (what: string) => () => {
    const why = `Cannot use ${what}: UDP doesn't go through the proxy ${proxyText(proxy)}`;
    return Promise.reject(new SallyportError("not_supported", why, { side: "config", retryable: true }));
  };
  const faults = new Faults();
  return {
    ...runtime,
    dial: (options) => dialThrough(runtime, proxy, options),
    connect: (options, handler) =>
      "path" in options ? runtime.connect(options, handler) : connectByDial(
        dialThrough(runtime, proxy, { ...options, timeoutMs: DIAL_TIMEOUT_MS }),
        options,
        handler,
        faults,
      ),
    resolve: (host) => Promise.resolve([host]),
    bindDatagram: unable("a datagram socket"),
    quic: unable("QUIC"),
  };
}

async function dialThrough(runtime: Runtime, proxy: Proxy, options: DialOptions): Promise<Conn> {
  const deadlineMs = runtime.clock.nowMs() + options.timeoutMs;
  const { host, port } = proxy;
  const conn = await runtime.dial({ host, port, timeoutMs: options.timeoutMs }).catch((error) => {
    const why = errorMessage(error).replace(/^Cannot connect to /, "");
    throw refused(`it can't be reached: ${why}`, errorCode(error));
  });
  const leftMs = Math.max(1, deadlineMs - runtime.clock.nowMs());
  return await new Promise((resolve, reject) => {
    const steps = proxy.kind === "http" ? new ConnectSteps(proxy, options) : new SocksSteps(proxy, options);
    const timer = runtime.clock.after(leftMs, () => handshake.fail(dialTimeoutError(options)));
    const handshake = new ProxyHandshake(conn, steps, timer, { resolve, reject });
    handshake.start();
  });
}

/** The outcome of a proxy's response so far. */
type Step =
  | { readonly kind: "more" }
  | { readonly kind: "send"; readonly bytes: Bytes; readonly consumed: number }
  | { readonly kind: "open"; readonly consumed: number };

/** A proxy's protocol without I/O; methods throw on errors. */
interface ProxySteps {
  /** The first bytes to send. */
  readonly first: Bytes;
  /** Processes all bytes received but not yet consumed. */
  take(received: Bytes): Step;
}

/** Runs the proxy's protocol until the connection is open, then hands it on. */
class ProxyHandshake implements ByteStreamHandler {
  readonly #conn: Conn;
  readonly #steps: ProxySteps;
  readonly #timer: Timer;
  readonly #outcome: { resolve(conn: Conn): void; reject(error: unknown): void };
  #received: Bytes = new Uint8Array(0);
  #over = false;

  constructor(
    conn: Conn,
    steps: ProxySteps,
    timer: Timer,
    outcome: { resolve(conn: Conn): void; reject(error: unknown): void },
  ) {
    this.#conn = conn;
    this.#steps = steps;
    this.#timer = timer;
    this.#outcome = outcome;
  }

  start(): void {
    this.#conn.attach(this);
    this.#conn.write(this.#steps.first);
  }

  data(chunk: Bytes): void {
    if (this.#over) {
      // An edge never sends first; a peer that does isn't an edge.
      this.#conn.abort(
        new SallyportError("connection_lost", "Connection lost: its peer spoke first", { side: "peer" }),
      );
      return;
    }
    this.#received = concat([this.#received, chunk]);
    try {
      this.#go();
    } catch (error) {
      this.fail(error);
    }
  }

  #go(): void {
    for (;;) {
      const step = this.#steps.take(this.#received);
      if (step.kind === "more") return;
      this.#received = this.#received.slice(step.consumed);
      if (step.kind === "send") {
        this.#conn.write(step.bytes);
        continue;
      }
      if (this.#received.length > 0) throw refused("it sent bytes after its answer");
      this.#over = true;
      this.#timer.cancel();
      this.#outcome.resolve(this.#conn);
      return;
    }
  }

  end(): void {
    this.fail(refused("it ended the connection without an answer"));
  }

  drain(): void {}

  close(error?: Error): void {
    this.fail(error ?? refused("it ended the connection without an answer"));
  }

  fail(error: unknown): void {
    if (this.#over) return;
    this.#over = true;
    this.#timer.cancel();
    this.#conn.abort();
    this.#outcome.reject(error);
  }
}

/** CONNECT. */
class ConnectSteps implements ProxySteps {
  readonly first: Bytes;
  readonly #proxy: Proxy;

  constructor(proxy: Proxy, { host, port }: DialOptions) {
    this.#proxy = proxy;
    const to = formatHostPort({ host, port });
    const { user, password = "" } = proxy;
    const credentials = user === undefined
      ? ""
      : `Proxy-Authorization: Basic ${Buffer.from(`${user}:${password}`).toString("base64")}\r\n`;
    this.first = new TextEncoder().encode(`CONNECT ${to} HTTP/1.1\r\nHost: ${to}\r\n${credentials}\r\n`);
  }

  take(received: Bytes): Step {
    const text = Buffer.from(received.subarray(0, PROXY_ANSWER_MAX_BYTES)).toString("latin1");
    const end = text.indexOf("\r\n\r\n");
    if (end < 0) {
      if (received.length >= PROXY_ANSWER_MAX_BYTES) throw refused("its answer is too long");
      if (text.length >= 5 && !text.startsWith("HTTP/")) throw refused("it doesn't answer in HTTP");
      return { kind: "more" };
    }
    const [, status = "", reason = ""] = /^HTTP\/1\.[01] (\d{3}) ?([^\r\n]{0,80})/.exec(text) ?? [];
    if (status === "") throw refused("it doesn't answer in HTTP");
    if (status.startsWith("1")) return { kind: "send", bytes: new Uint8Array(0), consumed: end + 4 };
    if (status.startsWith("2")) return { kind: "open", consumed: end + 4 };
    const hint = status === "407"
      ? this.#proxy.user === undefined
        ? "; it requires http://USER:PASSWORD@HOST:PORT"
        : "; its user or password is wrong"
      : "";
    throw refused(`it answers ${status} ${reason.replace(/[^\x20-\x7e]/g, "?")}`.trimEnd() + hint);
  }
}

const SOCKS_VERSION = 5;
const METHOD_NONE = 0;
const METHOD_PASSWORD = 2;
const REPLIES = [
  "",
  "general failure",
  "its rules don't allow it",
  "network unreachable",
  "host unreachable",
  "connection refused",
  "time to live expired",
  "it doesn't support CONNECT",
  "it doesn't support this kind of address",
];

/** SOCKS 5: greeting, password if requested, CONNECT. */
class SocksSteps implements ProxySteps {
  readonly first: Bytes;
  readonly #proxy: Proxy;
  readonly #request: Bytes;
  #state: "greeting" | "password" | "request" = "greeting";

  constructor(proxy: Proxy, { host, port }: DialOptions) {
    this.#proxy = proxy;
    const methods = proxy.user === undefined ? [METHOD_NONE] : [METHOD_NONE, METHOD_PASSWORD];
    this.first = Uint8Array.of(SOCKS_VERSION, methods.length, ...methods);
    const address = isIPv4(host)
      ? [1, ...host.split(".").map(Number)]
      : isIPv6(host)
      ? [4, ...ipv6Bytes(host)]
      : [3, Buffer.byteLength(host), ...Buffer.from(host)];
    this.#request = Uint8Array.of(SOCKS_VERSION, 1, 0, ...address, port >>> 8, port & 255);
  }

  take(received: Bytes): Step {
    if (received.length < 2) return { kind: "more" };
    if (this.#state === "password") {
      if (received[1] !== 0) throw refused("its user or password is wrong");
      this.#state = "request";
      return { kind: "send", bytes: this.#request, consumed: 2 };
    }
    if (received[0] !== SOCKS_VERSION) throw refused("it doesn't answer in SOCKS 5");
    if (this.#state === "greeting") {
      if (received[1] === METHOD_NONE) {
        this.#state = "request";
        return { kind: "send", bytes: this.#request, consumed: 2 };
      }
      if (received[1] !== METHOD_PASSWORD || this.#proxy.user === undefined) {
        throw refused("it requires socks5://USER:PASSWORD@HOST:PORT");
      }
      this.#state = "password";
      return { kind: "send", bytes: this.#credentials(), consumed: 2 };
    }
    if (received[1] !== 0) throw refused(REPLIES[received[1]!] ?? `reply ${received[1]}`);
    if (received.length < 5) return { kind: "more" };
    // The proxy's bound address, unused here.
    const size = received[3] === 1 ? 4 : received[3] === 4 ? 16 : 1 + received[4]!;
    const length = 4 + size + 2;
    return received.length < length ? { kind: "more" } : { kind: "open", consumed: length };
  }

  /** RFC 1929. */
  #credentials(): Bytes {
    const user = Buffer.from(this.#proxy.user ?? "").subarray(0, 255);
    const password = Buffer.from(this.#proxy.password ?? "").subarray(0, 255);
    return Uint8Array.of(1, user.length, ...user, password.length, ...password);
  }
}

function ipv6Bytes(host: string): number[] {
  const [head = "", tail] = host.split("%", 1)[0]!.split("::") as [string, string?];
  const groups = (text: string | undefined) =>
    (text ?? "").split(":").filter((group) => group !== "").flatMap((group) => {
      if (!group.includes(".")) return [parseInt(group, 16)];
      const [a = 0, b = 0, c = 0, d = 0] = group.split(".").map(Number);
      return [(a << 8) | b, (c << 8) | d];
    });
  const [left, right] = [groups(head), groups(tail)];
  const zeros = tail === undefined ? 0 : 8 - left.length - right.length;
  return [...left, ...Array<number>(zeros).fill(0), ...right].flatMap((group) => [group >>> 8, group & 255]);
}

function refused(why: string, code: ErrorCode = "connection_refused"): SallyportError {
  return new SallyportError(code, `Cannot connect through the proxy: ${why}`, {
    side: "network",
    retryable: true,
  });
}
