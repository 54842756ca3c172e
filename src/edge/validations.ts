/**
 * An authority's validation of a name that several agents share (TLS-ALPN-01, RFC 8737): one of them has the challenge,
 * and the others refuse it with a TLS alert.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { type Clock, type Conn, IGNORE_STREAM, type Timer } from "../runtime/port.ts";
import type { SessionStream } from "../transport/port.ts";
import { ACME_PROTOCOL } from "../wire/tls/client_hello.ts";
import { decodeAlert } from "../wire/tls/tls_alert.ts";

/** Whether a ClientHello asks for the answer to a challenge and nothing else. */
export function isValidation(alpnProtocols: readonly string[]): boolean {
  return alpnProtocols.length === 1 && alpnProtocols[0] === ACME_PROTOCOL;
}

/** A stream to one of the agents. */
interface Attempt {
  readonly stream: SessionStream;
  /** It isn't needed any more. */
  leave(): void;
}

/** Options of {@link offerValidation}. */
interface ValidationOptions {
  /** The authority. */
  readonly conn: Conn;
  /** All that it has sent. */
  readonly received: Bytes;
  readonly clock: Clock;
  /** How long each agent has for its answer. */
  readonly withinMs: number;
  /** Opens a stream to the next agent; undefined if there is none left. */
  next(): Attempt | undefined;
  /** This agent's first bytes aren't a refusal; the stream is attached before the call returns. */
  found(attempt: Attempt, answer: Bytes): void;
  /** No agent has the challenge. */
  refused(): void;
  /** The authority has left. */
  left(): void;
}

/** Offers the validation to one agent after the other, until one answers it. */
export function offerValidation(options: ValidationOptions): void {
  const { conn, received, clock } = options;
  let attempt: Attempt | undefined;
  let timer: Timer | undefined;
  const abandon = () => {
    timer?.cancel();
    attempt?.stream.attach(IGNORE_STREAM);
    attempt?.stream.abort();
    attempt?.leave();
    attempt = undefined;
  };
  const tryNext = () => {
    abandon();
    attempt = options.next();
    if (attempt === undefined) {
      conn.attach(IGNORE_STREAM);
      conn.resume();
      return options.refused();
    }
    const tried = attempt;
    const goOn = () => {
      // Not from within a callback of the stream that is abandoned.
      clock.soon(() => {
        if (attempt === tried) tryNext();
      });
    };
    timer = clock.after(options.withinMs, goOn);
    tried.stream.attach({
      data(chunk) {
        if (attempt !== tried) return;
        if (decodeAlert(chunk) !== undefined) return goOn();
        timer?.cancel();
        options.found(tried, chunk);
        conn.resume();
      },
      end: goOn,
      drain() {},
      close: goOn,
    });
    tried.stream.write(received);
  };
  conn.attach({
    ...IGNORE_STREAM,
    close() {
      abandon();
      options.left();
    },
  });
  conn.pause();
  tryNext();
}
