/**
 * The table of transports of a test's edge.
 *
 * @module
 */
import type { QuicIdentity } from "../../src/runtime/quic_port.ts";
import type { CurveIdentity } from "../../src/transport/curve/accept.ts";
import { curveTransport } from "../../src/transport/curve/edge.ts";
import type { EdgeTransport } from "../../src/transport/edge_transport.ts";
import { quicTransport } from "../../src/transport/quic/edge.ts";
import { sealedTransport, type SealedTransportOptions } from "../../src/transport/sealed/edge.ts";
import { snitunTransport, type SnitunTransportOptions } from "../../src/transport/snitun/edge.ts";

/** What a test has for each transport; SniTun is there in any case. */
export interface TestTransports {
  readonly snitun?: SnitunTransportOptions;
  readonly sealed?: SealedTransportOptions;
  readonly curve?: CurveIdentity;
  readonly quic?: QuicIdentity;
}

/** Those of them. */
export function transportsOf({ snitun, sealed, curve, quic }: TestTransports): readonly EdgeTransport[] {
  return [
    snitunTransport(snitun),
    ...sealed === undefined ? [] : [sealedTransport(sealed)],
    ...curve === undefined ? [] : [curveTransport(curve)],
    ...quic === undefined ? [] : [quicTransport({ identity: quic })],
  ];
}
