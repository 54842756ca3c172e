/**
 * What the multiplexer asks of whoever drives it. The multiplexer has no sockets, no timers and no clock: bytes and
 * the time go in, events, bytes and the next deadline come out.
 *
 * @module
 */
import type { ErrorCode, SallyportError } from "../errors.ts";
import type { Bytes } from "../bytes/bytes.ts";
import type { MuxStream } from "./stream.ts";

/** The driver of a {@link MuxSession}. None of these may call back into the session before it returns. */
export interface MuxHost {
  /** Sends bytes to the peer, all of them; false means: no more until `session.writable()` is called. */
  write(bytes: Bytes): boolean;
  /** Asks for one call of `session.turn()` soon, behind the events that are being handled. */
  wake(): void;
  /** Asks for a call of `session.tick()` at `atMs` of `nowMs`'s clock; an earlier request stays good. */
  arm(atMs: number): void;
  /** Monotonic milliseconds. */
  nowMs(): number;
  /** Stops (true) or takes up again (false) the reading of the peer's bytes. */
  holdReading(hold: boolean): void;
  /** Agent only: a visitor's stream has come; it must be attached or aborted before the call returns or later. */
  opened(stream: MuxStream): void;
  /** A stream was refused or dropped for this reason, to be counted; the session goes on. */
  refused(code: ErrorCode): void;
  /** A stream is over, its handler has heard `close`. */
  closed(stream: MuxStream): void;
  /** The session is over: nothing is sent or received any more, every stream has been told. Called once. */
  ended(error: SallyportError): void;
}

/** Who called: what the edge knows of a visitor, and what the wire of the session can carry of it. */
export interface Caller {
  /** The visitor's IP address in canonical text; `0.0.0.0` when the protocol version can't carry it. */
  readonly address: string;
  /** The visitor's port, where the wire carries it. */
  readonly port?: number;
  /** The name that the visitor asked for, where the wire carries it. */
  readonly serverName?: string;
}
