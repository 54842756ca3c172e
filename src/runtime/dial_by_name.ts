/**
 * Dials a name: all its addresses, alternating IPv6 and IPv4, with staggered starts; the first to connect is kept (RFC
 * 8305, "Happy Eyeballs").
 *
 * @module
 */
import { lookup } from "node:dns/promises";
import { isIP, isIPv6 } from "node:net";
import { SallyportError } from "../errors.ts";
import type { Clock, Conn, DialOptions, Timer } from "./port.ts";
import { dialError, dialTimeoutError } from "./shared.ts";

/** The next address is tried when the previous one hasn't connected within this time (RFC 8305 §5). */
export const ADDRESS_DELAY_MS = 250;
/** Addresses tried per name; more are unusual. */
export const ADDRESSES_MAX = 8;

/** Finds the addresses of a name; rejects as `Runtime.dial`. */
export type ResolveHost = (host: string) => Promise<readonly string[]>;

/** The current addresses of a name from the system, families alternating, the system's preferred one first. */
export async function resolveHost(host: string): Promise<readonly string[]> {
  if (isIP(host) !== 0) return [host];
  try {
    return interleave((await lookup(host, { all: true, verbatim: true })).map(({ address }) => address));
  } catch (cause) {
    const code = (cause as { code?: unknown }).code;
    throw dialError({ host, port: 0 }, { code: code === "EAI_AGAIN" ? code : "ENOTFOUND" });
  }
}

/** Addresses with alternating families (RFC 8305 §4), without duplicates, at most {@link ADDRESSES_MAX}. */
export function interleave(addresses: readonly string[]): readonly string[] {
  const unique = [...new Set(addresses)];
  const firstIsV6 = isIPv6(unique[0] ?? "");
  const first = unique.filter((address) => isIPv6(address) === firstIsV6);
  const second = unique.filter((address) => isIPv6(address) !== firstIsV6);
  const mixed: string[] = [];
  for (let i = 0; i < Math.max(first.length, second.length); i++) {
    mixed.push(...first.slice(i, i + 1), ...second.slice(i, i + 1));
  }
  return mixed.slice(0, ADDRESSES_MAX);
}

/** The addresses of a name that may be dialled. Throws `access_denied` if there is none. */
export function permitted(
  addresses: readonly string[],
  { host, permits = () => true }: Pick<DialOptions, "host" | "permits">,
): readonly string[] {
  const left = addresses.filter(permits);
  if (left.length > 0) return left;
  const why = `Cannot connect to ${host}: its address ${addresses.join(", ")} isn't permitted`;
  throw new SallyportError("access_denied", why, { side: "config", retryable: true });
}

/** Dependencies of {@link dialByName}. */
interface DialByNameParts {
  readonly clock: Clock;
  readonly resolve: ResolveHost;
  /** Connects to one address; rejects as `Runtime.dial`. */
  connect(options: DialOptions): Promise<Conn>;
}

/** Dials the addresses of `options.host` as described above; rejects as `Runtime.dial`, with the first failure. */
export function dialByName(options: DialOptions, parts: DialByNameParts): Promise<Conn> {
  return isIP(options.host) !== 0 ? parts.connect(options) : dialName(options, parts);
}

async function dialName(options: DialOptions, parts: DialByNameParts): Promise<Conn> {
  const { clock } = parts;
  const deadlineMs = clock.nowMs() + options.timeoutMs;
  const addresses = permitted(await withTimeout(parts.resolve(options.host), options, clock), options);
  if (addresses.length === 1) return await parts.connect({ ...options, host: addresses[0]! });
  return await new Promise((resolve, reject) => {
    let next = 0;
    let failed = 0;
    let over = false;
    let timer: Timer | undefined;
    let firstError: unknown;
    const startNext = () => {
      timer?.cancel();
      const host = addresses[next];
      if (over || host === undefined) return;
      next++;
      if (next < addresses.length) timer = clock.after(ADDRESS_DELAY_MS, startNext);
      const timeoutMs = Math.max(1, deadlineMs - clock.nowMs());
      parts.connect({ ...options, host, timeoutMs }).then((conn) => {
        if (over) return conn.abort();
        over = true;
        timer?.cancel();
        resolve(conn);
      }, (error: unknown) => {
        firstError ??= error;
        failed++;
        if (over) return;
        if (failed < addresses.length) return startNext();
        over = true;
        reject(firstError);
      });
    };
    startNext();
  });
}

/** Applies a timeout: the system's resolver may take too long. */
function withTimeout<T>(promise: Promise<T>, options: DialOptions, clock: Clock): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = clock.after(options.timeoutMs, () => reject(dialTimeoutError(options)));
    promise.then((value) => {
      timer.cancel();
      resolve(value);
    }, (error: SallyportError) => {
      timer.cancel();
      reject(error);
    });
  });
}
