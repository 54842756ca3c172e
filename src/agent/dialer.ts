/**
 * The dialers for the transports of an agent's sessions.
 *
 * @module
 */
import { CurveDialer } from "../transport/curve/agent.ts";
import { EdgeKey } from "../transport/edge_key.ts";
import type { DialerOptions, DialerParts, TransportDialer } from "../transport/agent_transport.ts";
import type { TransportName } from "../transport/names.ts";
import { QuicDialer } from "../transport/quic/agent.ts";
import { SealedDialer } from "../transport/sealed/agent.ts";
import { SnitunDialer } from "../transport/snitun/agent.ts";

const DIALERS: Readonly<Record<TransportName, new (parts: DialerParts) => TransportDialer>> = {
  quic: QuicDialer,
  curve: CurveDialer,
  snitun: SnitunDialer,
  sealed: SealedDialer,
};

/** The dialers of one agent, each created on first use. */
export class Dialers {
  readonly #parts: DialerParts;
  readonly #made = new Map<TransportName, TransportDialer>();

  constructor(options: DialerOptions) {
    this.#parts = { ...options, edgeKey: new EdgeKey(options.edgePublicKey) };
  }

  /** The dialer of this transport. */
  of(name: TransportName): TransportDialer {
    const made = this.#made.get(name) ?? new DIALERS[name](this.#parts);
    this.#made.set(name, made);
    return made;
  }
}
