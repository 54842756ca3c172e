/**
 * HTTP as a service of tunnels: a stream carries HTTP/1.1, and a fetch handler answers.
 *
 * @module
 */
import { HttpEngine } from "../../runtime/http_engine.ts";
import type { Clock } from "../../runtime/port.ts";
import type { TunnelRequest, TunnelService } from "./router.ts";

/** What {@link httpService} takes. */
export interface HttpServiceOptions {
  /** Answers one request; `by` is the tunnel's request by which its connection came. */
  fetch(request: Request, by: TunnelRequest): Response | Promise<Response>;
  readonly clock: Clock;
}

/**
 * Makes the service. It takes every request for a stream; a stream carries one HTTP request, and is ended when no
 * byte has gone either way for 120 s. What the handler throws is answered with 500, a request without a valid Host field
 * with 400.
 *
 * @example
 * ```ts
 * const router = createRouter({ "/http": httpService({ clock: runtime.clock, fetch: app.fetch }) });
 * ```
 */
export function httpService({ fetch, clock }: HttpServiceOptions): TunnelService {
  const engine = new HttpEngine<TunnelRequest>({ clock, keepAlive: false, fetch });
  return (by) => (stream) => void engine.serve(stream, by);
}
