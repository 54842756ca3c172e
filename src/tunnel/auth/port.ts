/**
 * The ports of authentication: authenticators verify the other side of a carrier, and credentials prove this side.
 * There may be several of each; the method is negotiated by name (docs/protocols/tunnels.md).
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import type { TunnelAttributes } from "../../cluster/registry.ts";
import type { Address, Clock } from "../../runtime/port.ts";

/** Tunnels: maximum length of a name, usually a host name. */
export const TUNNEL_NAME_MAX_BYTES = 255;
/** Tunnels: deadline for the other side's next message. */
export const TUNNEL_AUTH_STEP_MS = 5_000;

/** Steps of a method: messages of up to 16 KiB, each awaited for at most {@link TUNNEL_AUTH_STEP_MS}. */
export interface AuthSteps {
  /** Sends a message. */
  send(message: Bytes): void;
  /** The other side's next message. Rejects with `deadline_exceeded`, `connection_lost` or `request_invalid`. */
  receive(): Promise<Bytes>;
}

/** Connection details available to a method. */
export interface AuthContext {
  /** The transport's name. */
  readonly transport: string;
  /** The other side's address, as far as known. */
  readonly remote: Address;
  readonly clock: Clock;
}

/** The identity of the other side. */
export interface TunnelIdentity {
  /** The tunnel's name in the registry: 1 to 255 bytes of text. */
  readonly name: string;
  /** Additional attributes. Defaults to none. */
  readonly attributes?: TunnelAttributes;
  /** Unix seconds when the proof expires: the daemon then closes the tunnel. Defaults to never. */
  readonly validUntilS?: number;
  /** Data sent to the other side with the acceptance, such as a proof of this side. */
  readonly confirmation?: Bytes;
}

/** Verifies the other side by one method. */
export interface Authenticator {
  /** The method: 1 to 32 of a–z, 0–9 and `-`. */
  readonly method: string;
  /** Identifies the other side. Throws, or rejects, to refuse it; the reason isn't sent to it. */
  verify(steps: AuthSteps, context: AuthContext): Promise<TunnelIdentity>;
}

/** Proves this side by one method. */
export interface TunnelCredential {
  /** The method: 1 to 32 of a–z, 0–9 and `-`. */
  readonly method: string;
  /** Runs the steps; returns a function that checks the other side's confirmation and throws if it is invalid. */
  prove(steps: AuthSteps, context: AuthContext): Promise<((confirmation: Bytes) => void) | void>;
}
