/**
 * A new connection until its peer is authenticated, which happens in its first stream and within a bounded time.
 *
 * @module
 */
import { SallyportError } from "../../errors.ts";
import type { ByteStream, Clock, Timer } from "../../runtime/port.ts";
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

/** A connection that is being authenticated. Later streams wait until the carrier is handed on. */
export class PendingTunnel implements CarrierHandler {
  readonly carrier: Carrier;
  /** The authenticated peer. Rejects with the reason for a refusal; the caller then closes the carrier. */
  readonly verified: Promise<VerifiedPeer>;
  readonly #options: PendingTunnelOptions;
  readonly #verified = Promise.withResolvers<VerifiedPeer>();
  readonly #timer: Timer;
  #first = true;
  #early: ByteStream[] = [];
  #ended: SallyportError | undefined;

  constructor(options: PendingTunnelOptions) {
    this.#options = options;
    this.carrier = options.carrier;
    this.verified = this.#verified.promise;
    this.#timer = options.clock.after(TUNNEL_AUTH_STEP_MS, () => {
      const why = `Cannot authenticate: no stream in ${TUNNEL_AUTH_STEP_MS / 1000} s`;
      this.#verified.reject(new SallyportError("deadline_exceeded", why, { side: "network" }));
    });
    options.carrier.attach(this);
  }

  /** Hands on streams received meanwhile; the carrier has been attached to `handler`. */
  handOn(handler: CarrierHandler): void {
    for (const stream of this.#early.splice(0)) handler.stream(stream);
    if (this.#ended !== undefined) handler.ended(this.#ended);
  }

  /** Abandons the connection. */
  close(reason: SallyportError): void {
    this.#timer.cancel();
    this.#verified.reject(reason);
    this.carrier.close(reason);
  }

  /** Internal: from the carrier. */
  stream(stream: ByteStream): void {
    if (this.#first) {
      this.#first = false;
      this.#timer.cancel();
      const { carrier, authenticators, clock } = this.#options;
      const { transport, remote } = carrier;
      this.#verified.resolve(verifyPeer(stream, authenticators, { transport, remote, clock }));
    } else if (this.#early.length < TUNNEL_EARLY_STREAMS_MAX) this.#early.push(stream);
    else {stream.abort(
        new SallyportError("limit_exceeded", "Cannot open stream: too many come too early", { side: "peer" }),
      );}
  }

  /** Internal: from the carrier. */
  ended(error: SallyportError): void {
    this.#timer.cancel();
    this.#ended = error;
    this.#verified.reject(error);
  }
}
