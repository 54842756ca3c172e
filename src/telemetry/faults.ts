/**
 * Internal faults: those caught by a boundary are logged with their stack and counted, once.
 *
 * @module
 */
import { InternalError } from "../errors.ts";
import type { LogFields, Logger } from "./log.ts";
import type { Metrics } from "./metrics.ts";

/** Where faults are reported. */
export interface FaultSink {
  readonly log: Logger;
  readonly metrics?: Metrics | undefined;
}

/**
 * Logs a fault of this program or of an embedder's callback, with the stack of the thrown value, and counts it in
 * `sallyport_internal_errors_total`. Other errors are ignored, and so is a fault that an inner boundary has already
 * reported.
 */
export function reportFault(error: unknown, { log, metrics }: FaultSink, fields: LogFields = {}): void {
  if (!(error instanceof InternalError) || error.reported) return;
  error.reported = true;
  metrics?.internalError(error.where);
  log.error({ ...fields, where: error.where, reason: error.code, error }, error.message);
}
