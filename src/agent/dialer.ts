/**
 * The dialers for the transports of an agent's sessions.
 *
 * @module
 */
import { CurveDialer } from "../transport/curve/agent.ts";
import { EdgeKey } from "../transport/edge_key.ts";
import type { DialerOptions, DialerParts, TransportDialer } from "../transport/agent_transport.ts";
import { QuicDialer } from "../transport/quic/agent.ts";
import { SealedDialer } from "../transport/sealed/agent.ts";
import { SnitunDialer } from "../transport/snitun/agent.ts";

/** All transports, in the order in which "auto" prefers them. */
const DIALERS = {
  quic: QuicDialer,
  curve: CurveDialer,
  snitun: SnitunDialer,
  sealed: SealedDialer,
} as const satisfies Readonly<Record<string, new (parts: DialerParts) => TransportDialer>>;

/** The name of a transport. */
export type TransportName = keyof typeof DIALERS;
/** A transport; "auto" tries those that the edge offers and keeps the first that connects. */
export type TransportSetting = TransportName | "auto";

/** The names of all transports, in the order in which "auto" tries them. */
export const TRANSPORTS: readonly TransportName[] = Object.keys(DIALERS) as TransportName[];

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
