/**
 * The port between transports and the edge: the decision to let an agent in, and the connections that an edge has
 * accepted for a transport over TCP.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import type { FernetFault } from "../crypto/fernet.ts";
import { internalError, type SallyportError } from "../errors.ts";
import type { OpenedToken } from "../protocol/token/token_reader.ts";
import type { Address, Conn } from "../runtime/port.ts";
import type { TokenClaims } from "../wire/token/token_payload.ts";
import type { Session, SessionHandler } from "./port.ts";
import type { Slices } from "./slices.ts";

/** Decides about the agents of one transport. */
export interface AgentAdmission {
  /** Opens a token, as `tryOpenToken` does. */
  openToken(token: Bytes): TokenClaims | FernetFault;
  /** Decides whether the agent is let in: throws, or rejects, with the reason where it isn't. */
  authorize(token: OpenedToken, remote: Address): void | Promise<void>;
  /** The agent is let in; gives the session's handler. May throw to refuse it. */
  admit(token: OpenedToken, session: Session, remote: Address): SessionHandler;
  /**
   * The connection came to nothing; `known` says whether it has shown anything that strangers don't have. Called at
   * most once, never after `admit`.
   */
  refused(error: SallyportError, token: OpenedToken | undefined, remote: Address, known: boolean): void;
  /** What handshakes over TCP may take of a turn; as much as they want when absent. */
  readonly slices?: Slices;
}

/** A connection that an edge has accepted at a TCP port. */
export interface AcceptedConnection {
  readonly conn: Conn;
  /** Everything read of it behind a PROXY header; valid until the call returns that it is handed over with. */
  readonly received: Bytes;
  /** The peer, as the trusted proxy named it where there is one. */
  readonly remote: Address;
  /** When the connection came, on the monotonic clock: all its deadlines count from there. */
  readonly acceptedAtMs: number;
  /** It came to a port for agents of this transport alone. */
  readonly alone: boolean;
  /** The agent has shown a genuine token: it counts among the unfinished agents from now on. */
  known(): void;
  /** To be called when the connection has been routed, admitted or refused: it counts as unfinished until then. */
  left(): void;
}

/** Why an agent isn't let in, whatever was thrown. */
export function asRefusal(cause: unknown): SallyportError {
  return internalError("handshake", cause);
}
