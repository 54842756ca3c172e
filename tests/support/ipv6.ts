/**
 * Whether this machine has IPv6: containers often have none, not even on loopback.
 *
 * @module
 */
import { networkInterfaces } from "node:os";

/** Whether a program can listen on ::1. */
export function hasIpv6(): boolean {
  return Object.values(networkInterfaces()).some((addresses) =>
    addresses?.some(({ address }) => address === "::1")
  );
}
