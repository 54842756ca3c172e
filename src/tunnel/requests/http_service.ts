/**
 * HTTP as a service of tunnels: a stream carries HTTP/1.1, and a fetch handler answers.
 *
 * @module
 */
import { HttpEngine } from "../../runtime/http_engine.ts";
import type { Clock } from "../../runtime/port.ts";
import type { TunnelRequest, TunnelService } from "./router.ts";

/** Options of {@link httpService}. */
export interface HttpServiceOptions {
  /** Answers one request; `by` is the tunnel request that opened its connection. */
  fetch(request: Request, by: TunnelRequest): Response | Promise<Response>;
  readonly clock: Clock;
}

/**
 * Creates the service. It accepts every request for a stream; a stream carries one HTTP request, and is closed when no
 * byte has moved in either direction for 120 s. An exception of the handler is answered with 500, a request without a
 * valid Host field with 400.
 *
 * @example
 * ```ts const router = createRouter({ "/http": httpService({ clock: runtime.clock, fetch: app.fetch }) });
 * ```
 */
export function httpService({ fetch, clock }: HttpServiceOptions): TunnelService {
  const engine = new HttpEngine<TunnelRequest>({ clock, keepAlive: false, fetch });
  return (by) => (stream) => void engine.serve(stream, by);
}
