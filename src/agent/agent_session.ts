/**
 * One session of an agent, from its grant to its end.
 *
 * @module
 */
import type { InternalError, SallyportError } from "../errors.ts";
import type { Clock, Runtime, Timer } from "../runtime/port.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Session, SessionHandler, SessionStream } from "../transport/port.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Router } from "../tunnel/requests/router.ts";
import { chooseByFirstByte, SessionCarrier } from "../tunnel/carriers/session_carrier.ts";
import type { TunnelCredential } from "../tunnel/auth/port.ts";
import { joinTunnel } from "../tunnel/daemon/join.ts";
import { Tunnel, type TunnelOptions } from "../tunnel/tunnel.ts";
import { tokenMadeAtS } from "../protocol/token/token.ts";
import type { Grant } from "../transport/grant.ts";
import { RECONNECT_FIRST_MS } from "./backoff.ts";

/** The agent requests a fresh token after this fraction of the old one's lifetime. */
export const TOKEN_RENEW_AT = 0.8;

/** Options of a session's tunnel. */
interface AgentTunnelOptions {
  readonly router: Router;
  readonly name: string;
  readonly log: Logger;
  readonly credentials: readonly TunnelCredential[] | undefined;
}

/** One session of the agent. A renewed one runs beside it until the edge has released the older. */
export class AgentSession implements SessionHandler {
  readonly grant: Grant;
  /** The edge's name, as in the grant. */
  readonly place: string;
  /** The edge sends no new visitors here: it is about to stop. */
  leaving = false;
  /** Resolves with the reason when the session is over. */
  readonly over: Promise<SallyportError>;
  /** Like {@link over}, or when the edge stops sending new visitors; undefined if a fresh token is due before that. */
  readonly overOrRenewal: Promise<SallyportError | undefined>;
  session!: Session;
  /** HOST:PORT. */
  edge = "";
  tunnel: Tunnel | undefined;
  #carrier: SessionCarrier | undefined;
  #joining: (TunnelOptions & Pick<AgentTunnelOptions, "credentials">) | undefined;
  readonly #clock: Clock;
  readonly #serve: (stream: SessionStream) => void;
  readonly #over = Promise.withResolvers<SallyportError>();
  readonly #overOrRenewal = Promise.withResolvers<SallyportError | undefined>();
  readonly #renewAtMs: number;
  #bornMs = 0;
  #renewTimer: Timer | undefined;
  readonly #metrics: Metrics | undefined;
  readonly #fault: (error: SallyportError) => void;
  #retired: SallyportError | undefined;

  /** Create it as soon as the grant has arrived: its token ages from then on. */
  constructor(
    runtime: Runtime,
    grant: Grant,
    place: string,
    serve: (stream: SessionStream) => void,
    metrics: Metrics | undefined,
    fault: (error: SallyportError) => void,
  ) {
    this.#clock = runtime.clock;
    this.grant = grant;
    this.place = place;
    this.#serve = serve;
    this.#metrics = metrics;
    this.#fault = fault;
    this.over = this.#over.promise;
    this.overOrRenewal = this.#overOrRenewal.promise;
    this.#renewAtMs = this.#clock.nowMs() + lifetimeMs(grant, runtime) * TOKEN_RENEW_AT;
  }

  /** The edge has admitted us; `edge` is the address dialled. */
  begin(session: Session, edge: string): void {
    this.session = session;
    this.edge = edge;
    this.#metrics?.sessionOpened(session);
    this.#bornMs = this.#clock.nowMs();
    this.#renewTimer = this.#clock.after(
      Math.max(0, this.#renewAtMs - this.#bornMs),
      () => this.#overOrRenewal.resolve(undefined),
    );
  }

  /** From now on both sides may make requests; with credentials, only after {@link join}. */
  openTunnel(options: AgentTunnelOptions): void {
    this.#carrier = new SessionCarrier(this.session, () => this.#metrics?.streamOpened());
    this.#joining = {
      ...options,
      carrier: this.#carrier,
      clock: this.#clock,
      ...this.#metrics === undefined ? {} : { metrics: this.#metrics },
      refused: (code) => this.streamRefused(code),
    };
    if (options.credentials === undefined) this.tunnel = new Tunnel(this.#joining);
  }

  /** Authenticates this side if required. If the other side refuses, it rejects and the session ends. */
  async join(): Promise<void> {
    const joining = this.#joining;
    if (joining?.credentials === undefined) return;
    this.tunnel = await joinTunnel({ ...joining, credentials: joining.credentials });
  }

  /** How long the session has been established. */
  get livedMs(): number {
    return this.#clock.nowMs() - this.#bornMs;
  }

  /** Signals that a fresh token is due. */
  renew(): void {
    this.#overOrRenewal.resolve(undefined);
  }

  async retire(reason: SallyportError, graceMs: number): Promise<void> {
    this.#retired = reason;
    this.session.goAway(reason);
    const timer = this.#clock.after(graceMs, () => this.session.close(reason));
    this.#closeIfRetired();
    await this.over;
    timer.cancel();
  }

  stream(stream: SessionStream): void {
    this.#metrics?.streamOpened();
    const carrier = this.#carrier;
    if (carrier === undefined) return this.#serve(stream);
    chooseByFirstByte(stream, this.#clock, {
      request: (request) => carrier.offer(request),
      visitor: this.#serve,
      fault: (error) => this.#fault(error),
    });
  }

  streamClosed(): void {
    this.#metrics?.streamClosed();
    this.#carrier?.streamClosed();
    this.#closeIfRetired();
  }

  streamRefused(code: SallyportError["code"]): void {
    this.#metrics?.refused("stream", code);
  }

  fault(error: InternalError): void {
    this.#fault(error);
  }

  /** As with a renewal, the next session is opened before this one ends; meanwhile the edge serves visitors here. */
  goingAway(): void {
    this.leaving = true;
    this.renew();
  }

  #closeIfRetired(): void {
    if (this.#retired !== undefined && this.session.streams === 0) this.session.close(this.#retired);
  }

  ended(error: SallyportError): void {
    this.#fault(error);
    this.#carrier?.ended(error);
    this.#renewTimer?.cancel();
    this.#metrics?.sessionClosed(this.session);
    this.#metrics?.sessionEnded(error.code);
    this.#over.resolve(error);
    this.#overOrRenewal.resolve(error);
  }
}

/** The token's lifetime by its issuer's clock, so that a wrong local clock does no harm. */
function lifetimeMs(grant: Grant, runtime: Runtime): number {
  const madeS = tokenMadeAtS(grant.token);
  const lifeMs = grant.valid * 1000 - (madeS > 0 ? madeS * 1000 : runtime.clock.wallMs());
  return Math.max(RECONNECT_FIRST_MS, lifeMs);
}
