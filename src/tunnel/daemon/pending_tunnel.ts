/**
 * A new connection until its peer is authenticated, which happens in its first stream and within a bounded time.
 *
 * @module
 */
import type { Caller } from "../../protocol/mux/host.ts";
import { SallyportError } from "../../errors.ts";
import type { Address, ByteStream, Clock, Timer } from "../../runtime/port.ts";
import { type VerifiedPeer, verifyPeer } from "../auth/negotiate.ts";
import type { Authenticator } from "../auth/port.ts";
import type { Carrier, CarrierHandler } from "../carriers/carrier.ts";
import { TUNNEL_AUTH_STEP_MS } from "../auth/port.ts";

/** Tunnels: streams that may wait until a tunnel is registered. */
export const TUNNEL_EARLY_STREAMS_MAX = 64;

/** Options of {@link PendingTunnel}. */
interface PendingTunnelOptions {
  readonly carrier: Carrier;
  readonly authenticators: readonly Authenticator[];
  readonly clock: Clock;
}

/**
 * A connection that is being authenticated. It is the carrier of the tunnel made from it, whose streams wait until
 * {@link PendingTunnel.handOn}.
 */
export class PendingTunnel implements Carrier {
  /** The authenticated peer. Rejects with the reason for a refusal; the caller then closes the carrier. */
  readonly verified: Promise<VerifiedPeer>;
  readonly #carrier: Carrier;
  readonly #options: PendingTunnelOptions;
  readonly #verified = Promise.withResolvers<VerifiedPeer>();
  readonly #timer: Timer;
  #first = true;
  #early: ByteStream[] = [];
  #handler: CarrierHandler | undefined;
  #ended: SallyportError | undefined;

  constructor(options: PendingTunnelOptions) {
    this.#options = options;
    this.#carrier = options.carrier;
    this.verified = this.#verified.promise;
    this.#timer = options.clock.after(TUNNEL_AUTH_STEP_MS, () => {
      const why = `Cannot authenticate: no stream in ${TUNNEL_AUTH_STEP_MS / 1000} s`;
      this.#verified.reject(new SallyportError("deadline_exceeded", why, { side: "network" }));
    });
    options.carrier.attach({
      stream: (stream) => this.#arrived(stream),
      ended: (error) => this.#over(error),
    });
  }

  get transport(): string {
    return this.#carrier.transport;
  }

  get remote(): Address {
    return this.#carrier.remote;
  }

  /** Sets the handler to which {@link handOn} hands the connection. */
  attach(handler: CarrierHandler): void {
    this.#handler = handler;
  }

  /** Gives the connection to the attached handler, with the streams received meanwhile. */
  handOn(): void {
    const handler = this.#handler;
    if (handler === undefined) return;
    this.#carrier.attach(handler);
    for (const stream of this.#early.splice(0)) handler.stream(stream);
    if (this.#ended !== undefined) handler.ended(this.#ended);
  }

  open(caller?: Caller): Promise<ByteStream> {
    return this.#carrier.open(caller);
  }

  goAway(reason: SallyportError): void {
    this.#carrier.goAway(reason);
  }

  quiet(): Promise<void> {
    return this.#carrier.quiet?.() ?? new Promise(() => {});
  }

  close(reason: SallyportError): void {
    this.#timer.cancel();
    this.#verified.reject(reason);
    this.#carrier.close(reason);
  }

  #arrived(stream: ByteStream): void {
    if (this.#first) {
      this.#first = false;
      this.#timer.cancel();
      const { authenticators, clock } = this.#options;
      const { transport, remote } = this.#carrier;
      this.#verified.resolve(verifyPeer(stream, authenticators, { transport, remote, clock }));
    } else if (this.#early.length < TUNNEL_EARLY_STREAMS_MAX) this.#early.push(stream);
    else {
      const why = "Cannot open stream: too many before the tunnel is registered";
      stream.abort(new SallyportError("limit_exceeded", why, { side: "peer" }));
    }
  }

  #over(error: SallyportError): void {
    this.#timer.cancel();
    this.#ended = error;
    this.#verified.reject(error);
  }
}
