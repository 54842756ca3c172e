/**
 * The port between a transport and the edge: who decides whether an agent is let in.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { FernetError, type FernetFault } from "../crypto/fernet.ts";
import { internalError, type SallyportError } from "../errors.ts";
import { checkLoginProof, type LoginBinding } from "../protocol/handshake/login_proof.ts";
import type { OpenedToken } from "../protocol/token/token_reader.ts";
import type { Address, Conn } from "../runtime/port.ts";
import type { Login } from "../wire/login/login_messages.ts";
import type { TokenClaims } from "../wire/token/token_payload.ts";
import type { Session, SessionHandler } from "./port.ts";

/** Decides about agents. */
export interface AgentAdmission {
  /** Opens a token, as `tryOpenToken` does. */
  openToken(token: Bytes): TokenClaims | FernetFault;
  /** Decides whether the agent is let in: throws, or rejects, with the reason where it isn't. */
  authorize(token: OpenedToken, remote: Address): void | Promise<void>;
  /** The agent is let in; says who hears of the session. May throw to refuse it. */
  admit(token: OpenedToken, session: Session): SessionHandler;
  /**
   * The connection came to nothing; `known` says whether it has shown anything that strangers don't have. Called at
   * most once, never after `admit`.
   */
  refused(error: SallyportError, token: OpenedToken | undefined, remote: Address, known: boolean): void;
}

/** Opens a login's token. Throws `token_invalid`, `token_expired`. */
export function openLogin({ token }: Login, openToken: AgentAdmission["openToken"]): OpenedToken {
  const claims = openToken(token);
  if (typeof claims === "string") throw new FernetError(claims);
  return { token, claims };
}

/** Judges a login's proof. Throws `challenge_failed`. */
export function checkLogin({ proof }: Login, { token, claims }: OpenedToken, binding: LoginBinding): void {
  checkLoginProof(proof, claims.aesKey, token, binding);
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
  /** The agent has shown a genuine token: it counts among the unfinished agents from now on. */
  known(): void;
  /** To be called when the connection has been routed, admitted or refused: it counts as unfinished until then. */
  left(): void;
}

/** Why an agent isn't let in, whatever was thrown. */
export function asRefusal(cause: unknown): SallyportError {
  return internalError("handshake", cause);
}
