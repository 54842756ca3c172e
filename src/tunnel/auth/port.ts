/**
 * The ports of authentication: who verifies the other side of a carrier, and who proves itself. Several of each may be
 * at hand; which is used is negotiated by name (docs/protocols/tunnels.md).
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import type { TunnelAttributes } from "../../cluster/registry.ts";
import type { Address, Clock } from "../../runtime/port.ts";

/** Tunnels: a name is a host's, or little more. */
export const TUNNEL_NAME_MAX_BYTES = 255;
/** Tunnels: the other side's next message must come by then. */
export const TUNNEL_AUTH_STEP_MS = 5_000;

/** Steps of a method: messages of up to 16 KiB, each waited for {@link TUNNEL_AUTH_STEP_MS} at most. */
export interface AuthSteps {
  /** Sends a message. */
  send(message: Bytes): void;
  /** The other side's next message. Rejects with `deadline_exceeded`, `connection_lost` or `request_invalid`. */
  receive(): Promise<Bytes>;
}

/** What a method may know of the connection. */
export interface AuthContext {
  /** How it crosses the network. */
  readonly transport: string;
  /** The other side's address, as far as it can be known. */
  readonly remote: Address;
  readonly clock: Clock;
}

/** Who the other side is. */
export interface TunnelIdentity {
  /** The tunnel's name, by which the registry knows it: 1 to 255 bytes of text. */
  readonly name: string;
  /** What else is known; nothing when absent. */
  readonly attributes?: TunnelAttributes;
  /** Unix seconds after which it must be proved anew: the daemon ends the tunnel then. For good when absent. */
  readonly validUntilS?: number;
  /** What the other side gets with the acceptance, such as a proof of this side. */
  readonly confirmation?: Bytes;
}

/** Verifies the other side by one method. */
export interface Authenticator {
  /** The method: 1 to 32 of a–z, 0–9 and `-`. */
  readonly method: string;
  /** Says who the other side is. Throws, or rejects, to refuse it; the reason stays on this side. */
  verify(steps: AuthSteps, context: AuthContext): Promise<TunnelIdentity>;
}

/** Proves this side by one method. */
export interface TunnelCredential {
  /** The method: 1 to 32 of a–z, 0–9 and `-`. */
  readonly method: string;
  /**
   * Takes the steps; what it gives back sees the other side's confirmation and throws, where that must not be believed.
   */
  prove(steps: AuthSteps, context: AuthContext): Promise<((confirmation: Bytes) => void) | void>;
}
