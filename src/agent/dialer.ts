/**
 * Which transport an agent's sessions cross the network by.
 *
 * @module
 */
import { CurveDialer } from "./transports/curve.ts";
import { EdgeKey } from "./transports/edge_key.ts";
import type { DialerOptions, DialerParts, TransportDialer, TransportName } from "./transports/port.ts";
import { SealedDialer } from "./transports/sealed.ts";
import { SnitunDialer } from "./transports/snitun.ts";

/** A dialer for each transport. */
const DIALERS: { readonly [N in TransportName]: new (parts: DialerParts) => TransportDialer } = {
  snitun: SnitunDialer,
  sealed: SealedDialer,
  curve: CurveDialer,
};

/** Makes the dialer of the transport that is set. */
export function createDialer(options: DialerOptions): TransportDialer {
  const parts = { ...options, edgeKey: new EdgeKey(options.edgePublicKey) };
  return new DIALERS[options.transport ?? "snitun"](parts);
}
