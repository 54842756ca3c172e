/**
 * Faults of our own: what a boundary has caught is logged with its stack and counted, once.
 *
 * @module
 */
import { InternalError } from "../errors.ts";
import type { LogFields, Logger } from "./log.ts";
import type { Metrics } from "./metrics.ts";

/** Where faults are told. */
export interface FaultSink {
  readonly log: Logger;
  readonly metrics?: Metrics | undefined;
}

/**
 * Logs a fault of this program or of an embedder's callback, with the stack of what was thrown, and counts it in
 * `sallyport_internal_errors_total`. Any other error is left alone, and so is a fault that has been told before on its way
 * out.
 */
export function reportFault(error: unknown, { log, metrics }: FaultSink, fields: LogFields = {}): void {
  if (!(error instanceof InternalError) || error.reported) return;
  error.reported = true;
  metrics?.internalError(error.where);
  log.error({ ...fields, where: error.where, reason: error.code, error }, error.message);
}
