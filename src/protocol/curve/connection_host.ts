/**
 * The parts and the events of a connection.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import type { RandomSource } from "../../crypto/random.ts";
import type { InternalError, SallyportError } from "../../errors.ts";
import type { Address } from "../../runtime/port.ts";
import type { CurveConnection } from "./connection.ts";
import type { CurveOptions } from "./options.ts";
import type { Envelope, PacketOut } from "./sender.ts";
import type { CurveStream } from "./streams/stream.ts";

/** What connections share. */
export interface CurveIo extends PacketOut {
  /** Asks for a call of `connection.turn()` soon, behind the events that are being handled. */
  wake(connection: CurveConnection): void;
  /** Opened packets go here, and are valid until the next packet. */
  readonly plain: Bytes;
  readonly random: RandomSource;
}

/** Receives the events of a connection. Called from within receive, turn and tick, never from another method. */
export interface CurveHandler {
  /** Client: the server has let us in, with these bytes. Server: here is the client's credential; admit or close. */
  introduced(bytes: Bytes): void;
  /** The peer has opened a stream. Not before `introduced`. */
  stream(stream: CurveStream): void;
  /** A stream is over. */
  streamClosed(stream: CurveStream): void;
  /** A stream's handler has thrown; the stream is over, the connection goes on. */
  fault?(error: InternalError): void;
  /** The connection is over; the last call. */
  closed(error: SallyportError): void;
}

/** What a connection is made of. */
export interface ConnectionParts {
  readonly role: "client" | "server";
  readonly options: CurveOptions;
  readonly io: CurveIo;
  readonly peer: Address;
  /** Packets look like this until {@link CurveConnection.confirm}. */
  readonly envelope: Envelope;
  readonly nowMs: number;
}
