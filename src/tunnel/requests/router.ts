/**
 * Routers: which service takes a request, by its address.
 *
 * @module
 */
import { SallyportError } from "../../errors.ts";
import type { Caller } from "../../protocol/mux/host.ts";
import type { ByteStream } from "../../runtime/port.ts";
import { formatTunnelAddress, parseTunnelAddress } from "../../wire/snocat/tunnel_address.ts";
import type { Tunnel } from "../tunnel.ts";

/** What a {@link TunnelService} decides about. */
export interface TunnelRequest {
  /** The segments of the address. */
  readonly address: readonly string[];
  /** The segments behind those that the router went by. */
  readonly rest: readonly string[];
  /** By which tunnel it came. */
  readonly tunnel: Tunnel;
  /** On whose behalf the other side opened the stream, where the transport says so; `0.0.0.0` where it doesn't. */
  readonly caller: Caller;
  /** Aborted where the stream ends before the answer, or the answer takes too long. */
  readonly signal: AbortSignal;
}

/**
 * Takes the stream of a request that was accepted, with a handler that it attaches. The stream may be over already:
 * its handler hears of that at once.
 */
export type ServeStream = (stream: ByteStream) => void;

/**
 * Decides about a request: returns, or resolves with, what takes the stream, and the request is accepted; throws, or
 * rejects, with the reason, and it is refused. The reason stays here, the other side is told no more than that.
 */
export type TunnelService = (request: TunnelRequest) => ServeStream | Promise<ServeStream>;

/** Finds the service for an address. */
export interface Router {
  /** The service for these segments, and those of them that it wants to see; undefined where there is none. */
  find(
    address: readonly string[],
  ): { readonly service: TunnelService; readonly rest: readonly string[] } | undefined;
}

/**
 * A router by prefix, the longest first: `/echo` takes `/echo` and `/echo/anything`, not `/echoes`. The empty text
 * takes whatever nothing else does. Throws `address_invalid` for what is no address.
 *
 * @example
 * ```ts
 * const router = createRouter({
 *   "/proxy-tcp": tcpProxy({ runtime }),
 *   "/echo": () => (stream) => stream.attach({
 *     data: (chunk) => void stream.write(chunk),
 *     end: () => stream.closeWrite(),
 *     drain() {},
 *     close() {},
 *   }),
 * });
 * ```
 */
export function createRouter(services: Readonly<Record<string, TunnelService>>): Router {
  const byPrefix = new Map<string, TunnelService>();
  let longest = 0;
  for (const [prefix, service] of Object.entries(services)) {
    const segments = parseTunnelAddress(prefix);
    longest = Math.max(longest, segments.length);
    byPrefix.set(formatTunnelAddress(segments), service);
  }
  return {
    find(address) {
      for (let length = Math.min(longest, address.length); length >= 0; length--) {
        const service = byPrefix.get(formatTunnelAddress(address.slice(0, length)));
        if (service !== undefined) return { service, rest: address.slice(length) };
      }
      return undefined;
    },
  };
}

/** The error with which a service refuses; `why` is for this side's log. */
export function refusal(why: string, cause?: unknown): SallyportError {
  return new SallyportError("request_refused", `Cannot take tunnel request: ${why}`, {
    side: "local",
    cause,
  });
}
