/**
 * Reaches a session master, and then certificate authorities, from a machine whose clock is behind, such as a board
 * without a battery after its start: the runtime refuses their certificates, because they aren't valid yet by that
 * clock.
 *
 * @module
 */
import { getCACertificates } from "node:tls";
import type { Bytes } from "../bytes/bytes.ts";
import { chainFault, TrustedRoots } from "./certificate_chain.ts";
import { SallyportError } from "../errors.ts";
import { fetchOver } from "../runtime/fetch_over.ts";
import type { Clock, Fetch, Runtime, Timer } from "../runtime/port.ts";
import { type Logger, silentLogger } from "../telemetry/log.ts";
import { isNotYetValid } from "./fetch_failure.ts";
import { unbracketed } from "../wire/ip/host_port.ts";

/** A machine whose clock may be behind, and which may have to go through a proxy. */
export type LateMachine = Pick<Runtime, "dial"> & {
  readonly clock: MasterClock;
  /** Whether it dials through a proxy, which requests of the runtime's own don't. */
  readonly proxied?: boolean;
};

/** Options of {@link lateClockFetch}. */
interface LateClockOptions {
  readonly runtime: LateMachine;
  /** Tried first. Defaults to the platform's. */
  readonly fetch?: Fetch;
  /** Certificates of trusted authorities, in PEM. Defaults to the runtime's. */
  readonly roots?: () => readonly string[];
  readonly log?: Logger;
}

/** A machine whose clock is this much behind is corrected. */
const BEHIND_MS = 60_000;

/** The machine's clock, or the time that a session master gave, as long as the clock is behind it. */
export class MasterClock implements Clock {
  readonly #machine: Clock;
  /** What the master's time was at 0 of the monotonic clock. */
  #originMs = -Infinity;

  constructor(machine: Clock) {
    this.#machine = machine;
  }

  /** Takes the master's time. */
  learn(wallMs: number): void {
    this.#originMs = wallMs - this.#machine.nowMs();
  }

  /** Goes by the machine's clock again. */
  forget(): void {
    this.#originMs = -Infinity;
  }

  /** Whether the machine's clock is known to be behind. */
  get isBehind(): boolean {
    return this.#masterMs > this.#machine.wallMs() + BEHIND_MS;
  }

  wallMs(): number {
    return this.isBehind ? this.#masterMs : this.#machine.wallMs();
  }

  nowMs(): number {
    return this.#machine.nowMs();
  }

  after(delayMs: number, run: () => void): Timer {
    return this.#machine.after(delayMs, run);
  }

  soon(run: () => void): void {
    this.#machine.soon(run);
  }

  get #masterMs(): number {
    return this.#originMs + this.#machine.nowMs();
  }
}

/**
 * A fetch that goes on where a server's certificate isn't valid yet by this machine's clock: no authority dates a
 * certificate ahead, so the clock is behind. The server's `Date` is taken for the time if its chain is in order at that
 * date in every other respect, and the request is sent over a connection judged by it. Nothing of the request is sent
 * before. Later requests go by that time as long as the clock is behind, until one fails. A certificate that has
 * expired is refused as ever: it can't be told from a clock that is ahead.
 */
export function lateClockFetch(options: LateClockOptions): Fetch {
  const { runtime, fetch: first = (request) => fetch(request), log = silentLogger } = options;
  const roots = new TrustedRoots(options.roots ?? trustedPems);
  const { clock } = runtime;
  return async (request) => {
    if (clock.isBehind && request.url.startsWith("https:")) {
      try {
        return await fetchAt(runtime, request, roots, clock.wallMs());
      } catch (error) {
        // The time may be what is wrong: the next request asks for it again.
        clock.forget();
        throw error;
      }
    }
    const again = request.clone();
    try {
      return await first(request);
    } catch (error) {
      const url = new URL(request.url);
      if (url.protocol !== "https:" || !isNotYetValid(error)) throw error;
      const wallMs = await serverTime(runtime, url, again.signal, roots);
      log.warn(
        { clock: new Date(clock.wallMs()).toISOString(), time: new Date(wallMs).toISOString() },
        `This machine's clock is behind: the time is taken from ${url.origin}`,
      );
      clock.learn(wallMs);
      return await fetchAt(runtime, again, roots, wallMs);
    }
  };
}

/** Whether requests need connections of Sallyport's own, because those of the runtime's would fail. */
export function needsOwnConnections({ clock, proxied = false }: LateMachine): boolean {
  return proxied || clock.isBehind;
}

/**
 * A fetch through the machine's proxy that judges certificates at the session master's time as long as the machine's clock
 * is behind. `pems` are trusted; absent, those that the runtime trusts.
 */
export function masterTimeFetch(late: LateMachine, pems: () => readonly string[] = trustedPems): Fetch {
  const roots = new TrustedRoots(pems);
  return (request) =>
    needsOwnConnections(late) && request.url.startsWith("https:")
      ? fetchAt(late, request, roots, late.clock.wallMs())
      : fetch(request);
}

/** Sends a request over a connection whose certificates are judged at a given time. */
function fetchAt(
  runtime: Pick<Runtime, "dial" | "clock">,
  request: Request,
  roots: TrustedRoots,
  wallMs: number,
): Promise<Response> {
  return fetchOver(runtime, (chain) => judgeAt(chain, new URL(request.url), roots, wallMs))(request);
}

/** The server's `Date`, which its own chain must bear out. */
async function serverTime(
  runtime: Pick<Runtime, "dial" | "clock">,
  url: URL,
  signal: AbortSignal,
  roots: TrustedRoots,
): Promise<number> {
  let shown: readonly Bytes[] = [];
  const look = fetchOver(runtime, (chain) => {
    shown = chain;
    return Promise.resolve();
  });
  const answer = await look(new Request(url.origin, { method: "HEAD", redirect: "manual", signal }));
  const wallMs = Date.parse(answer.headers.get("date") ?? "");
  if (Number.isNaN(wallMs)) {
    throw distrusted(url, "its answer has no Date, and this machine's clock is behind");
  }
  await judgeAt(shown, url, roots, wallMs);
  return wallMs;
}

async function judgeAt(
  chain: readonly Bytes[],
  url: URL,
  roots: TrustedRoots,
  wallMs: number,
): Promise<void> {
  const host = unbracketed(url.hostname);
  const why = await chainFault({ chain, host, roots, wallMs });
  if (why !== undefined) throw distrusted(url, why);
}

function distrusted(url: URL, why: string): SallyportError {
  return new SallyportError("master_unreachable", `Cannot trust ${url.origin}: ${why}`, {
    side: "network",
    retryable: true,
  });
}

/** The authorities that the runtime trusts, with those of NODE_EXTRA_CA_CERTS. */
export function trustedPems(): readonly string[] {
  return [...new Set([...getCACertificates("default"), ...getCACertificates("extra")])];
}
