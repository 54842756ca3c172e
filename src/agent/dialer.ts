/**
 * A dialer for each transport that an agent's sessions may cross the network by.
 *
 * @module
 */
import { CurveDialer } from "./transports/curve.ts";
import { EdgeKey } from "./transports/edge_key.ts";
import type { DialerOptions, DialerParts, TransportDialer, TransportName } from "./transports/port.ts";
import { QuicDialer } from "./transports/quic.ts";
import { SealedDialer } from "./transports/sealed.ts";
import { SnitunDialer } from "./transports/snitun.ts";

/** All transports; those that "auto" prefers come first. */
const DIALERS: { readonly [N in TransportName]: new (parts: DialerParts) => TransportDialer } = {
  quic: QuicDialer,
  curve: CurveDialer,
  snitun: SnitunDialer,
  sealed: SealedDialer,
};

/** The names of all transports, in the order in which "auto" tries them. */
export const TRANSPORTS: readonly TransportName[] = Object.keys(DIALERS) as TransportName[];

/** The dialers of one agent, each made when it is first asked for. */
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
