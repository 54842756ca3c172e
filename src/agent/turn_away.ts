/**
 * Turning away a visitor who can't be served.
 *
 * @module
 */
import { type ByteStream, IGNORE_STREAM } from "../runtime/port.ts";
import { encodeAlert } from "../wire/tls/tls_alert.ts";

/** Sends an unencrypted TLS alert to a visitor, and closes its stream in order. */
export function turnAway(stream: ByteStream, alert: number): void {
  stream.attach(IGNORE_STREAM);
  stream.write(encodeAlert(alert));
  stream.release();
}
