/**
 * The congestion controls by name.
 *
 * @module
 */
import type { CongestionControl, CongestionName } from "./congestion.ts";
import { NewReno } from "./newreno.ts";
import { Vegas } from "./vegas.ts";

/** Makes a congestion control for datagrams of `datagramBytes`. */
export function createCongestion(name: CongestionName, datagramBytes: number): CongestionControl {
  return name === "vegas" ? new Vegas(datagramBytes) : new NewReno(datagramBytes);
}
