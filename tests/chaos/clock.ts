/**
 * Loaded before a program (`--preload`): its wall clock is ahead by the milliseconds in the file that CHAOS_CLOCK names,
 * which may change at any time. The monotonic clock is left alone, as when somebody sets a machine's clock.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import process from "node:process";

const LOOK_MS = 50;
const Real = Date;
let aheadMs = 0;

function look(): void {
  try {
    aheadMs = Number(readFileSync(process.env["CHAOS_CLOCK"] ?? "", "utf8"));
  } catch {
    // There is no such file yet.
  }
}

look();
setInterval(look, LOOK_MS).unref();
globalThis.Date = new Proxy(Real, {
  construct: (target, args: []) => args.length > 0 ? new target(...args) : new target(Real.now() + aheadMs),
  get: (target, name, receiver) =>
    name === "now" ? () => Real.now() + aheadMs : Reflect.get(target, name, receiver),
});
