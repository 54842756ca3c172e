/**
 * The names of the transports. Apart from the transports themselves, which the settings of an edge needn't load.
 *
 * @module
 */

/** The names of all transports, in the order in which "auto" tries them. */
export const TRANSPORTS = ["quic", "curve", "snitun", "sealed"] as const;

/** The name of a transport. */
export type TransportName = (typeof TRANSPORTS)[number];
/** A transport; "auto" tries those that the edge offers and keeps the first that connects. */
export type TransportSetting = TransportName | "auto";
