/**
 * Dials a name: all its addresses, IPv6 and IPv4 in turn, each started a moment behind the one before it, and the first
 * that answers is kept (RFC 8305, "Happy Eyeballs").
 *
 * @module
 */
import { lookup } from "node:dns/promises";
import { isIP, isIPv6 } from "node:net";
import type { SallyportError } from "../errors.ts";
import type { Clock, Conn, DialOptions, Timer } from "./port.ts";
import { dialError, dialTimeoutError } from "./shared.ts";

/** The next address is tried when the one before it hasn't answered in this time (RFC 8305 §5). */
export const ADDRESS_DELAY_MS = 250;
/** Addresses of one name that are tried; a name with more is odd. */
export const ADDRESSES_MAX = 8;

/** Finds the addresses of a name; rejects as `Runtime.dial`. */
type ResolveHost = (host: string) => Promise<readonly string[]>;

/** The addresses of a name as the system knows them now, families in turn, the system's favourite first. */
export async function resolveHost(host: string): Promise<readonly string[]> {
  if (isIP(host) !== 0) return [host];
  try {
    return interleave((await lookup(host, { all: true, verbatim: true })).map(({ address }) => address));
  } catch (cause) {
    const code = (cause as { code?: unknown }).code;
    throw dialError({ host, port: 0, timeoutMs: 0 }, { code: code === "EAI_AGAIN" ? code : "ENOTFOUND" });
  }
}

/** Addresses with the families in turn (RFC 8305 §4), each once, {@link ADDRESSES_MAX} at most. */
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

/** What {@link dialByName} works with. */
interface DialByNameParts {
  readonly clock: Clock;
  readonly resolve: ResolveHost;
  /** Connects to one address; rejects as `Runtime.dial`. */
  connect(options: DialOptions): Promise<Conn>;
}

/** Dials every address of `options.host` in the way of the module; rejects as `Runtime.dial`, with the first failure. */
export function dialByName(options: DialOptions, parts: DialByNameParts): Promise<Conn> {
  return isIP(options.host) !== 0 ? parts.connect(options) : dialName(options, parts);
}

async function dialName(options: DialOptions, parts: DialByNameParts): Promise<Conn> {
  const { clock } = parts;
  const deadlineMs = clock.nowMs() + options.timeoutMs;
  const addresses = await withTimeout(parts.resolve(options.host), options, clock);
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

/** The system's resolver may take longer than anybody wants to wait. */
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
