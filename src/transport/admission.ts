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

/** Admission control for the agents of one transport. */
export interface AgentAdmission {
  /** Opens a token, as `tryOpenToken` does. */
  openToken(token: Bytes): TokenClaims | FernetFault;
  /** Authorizes the agent: throws, or rejects, with the reason if it isn't admitted. */
  authorize(token: OpenedToken, remote: Address): void | Promise<void>;
  /** The agent is admitted; returns the session's handler. May throw to refuse it. */
  admit(token: OpenedToken, session: Session, remote: Address): SessionHandler;
  /**
   * The handshake failed; `known` says whether the peer showed anything a stranger wouldn't have. Called at most once,
   * never after `admit`.
   */
  refused(error: SallyportError, token: OpenedToken | undefined, remote: Address, known: boolean): void;
  /** Time budget per turn for handshakes over TCP. Defaults to no limit. */
  readonly slices?: Slices;
}

/** A connection that an edge has accepted at a TCP port. */
export interface AcceptedConnection {
  readonly conn: Conn;
  /** Everything read from it after any PROXY header; valid until the call that hands it over returns. */
  readonly received: Bytes;
  /** The peer's address, as given by the trusted proxy if there is one. */
  readonly remote: Address;
  /** When the connection was accepted, on the monotonic clock; all its deadlines count from then. */
  readonly acceptedAtMs: number;
  /** Whether it was accepted at a port dedicated to this transport's agents. */
  readonly alone: boolean;
  /** The agent has shown a genuine token: from now on it counts as a pending agent. */
  known(): void;
  /** Call when the connection has been routed, admitted or refused; it counts as pending until then. */
  left(): void;
}

/** Converts anything thrown into the reason for refusing an agent. */
export function asRefusal(cause: unknown): SallyportError {
  return internalError("handshake", cause);
}
