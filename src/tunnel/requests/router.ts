/**
 * Routers select the service for a request by its address.
 *
 * @module
 */
import { SallyportError } from "../../errors.ts";
import type { Caller } from "../../protocol/mux/host.ts";
import type { ByteStream } from "../../runtime/port.ts";
import { formatTunnelAddress, parseTunnelAddress } from "../../wire/snocat/tunnel_address.ts";
import type { Tunnel } from "../tunnel.ts";

/** A request for a {@link TunnelService} to decide on. */
export interface TunnelRequest {
  /** The segments of the address. */
  readonly address: readonly string[];
  /** The segments after those matched by the router. */
  readonly rest: readonly string[];
  /** The tunnel it arrived on. */
  readonly tunnel: Tunnel;
  /** The caller for whom the other side opened the stream, if the transport conveys it; else `0.0.0.0`. */
  readonly caller: Caller;
  /** Aborted if the stream ends before the answer, or the answer takes too long. */
  readonly signal: AbortSignal;
}

/**
 * Takes the stream of an accepted request and attaches a handler. The stream may already be over: the handler is then
 * notified at once.
 */
export type ServeStream = (stream: ByteStream) => void;

/**
 * Decides on a request. Returns, or resolves with, a function that takes the stream to accept it; throws, or rejects,
 * with the reason to refuse it. The reason isn't sent to the other side.
 */
export type TunnelService = (request: TunnelRequest) => ServeStream | Promise<ServeStream>;

/** Finds the service for an address. */
export interface Router {
  /** The service for these segments, and the segments passed to it; undefined if there is none. */
  find(
    address: readonly string[],
  ): { readonly service: TunnelService; readonly rest: readonly string[] } | undefined;
}

/**
 * A router by longest prefix: `/echo` takes `/echo` and `/echo/anything`, not `/echoes`. The empty string matches
 * everything else. Throws `address_invalid` for an invalid address.
 *
 * @example
 * ```ts const router = createRouter({   "/proxy-tcp": tcpProxy({ runtime }),   "/echo": () => (stream) =>
 * stream.attach({
 * data: (chunk) => void stream.write(chunk),
 * end: () => stream.closeWrite(),
 * drain() {},
 * close() {},   }), });
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

/** The error with which a service refuses; `why` is for the local log. */
export function refusal(why: string, cause?: unknown): SallyportError {
  return new SallyportError("request_refused", `Cannot accept tunnel request: ${why}`, {
    side: "local",
    cause,
  });
}
