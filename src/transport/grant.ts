/**
 * A grant, issued by the session master to an agent for one session: a token, its content, and the edge to dial.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import type { CipherName } from "../crypto/header_cipher.ts";
import type { AddressJudge } from "../runtime/port.ts";

/** A token, and the parts of its content needed to open a session. */
export interface TokenGrant {
  /** The token to present to the edge. */
  readonly token: string;
  /** 32 bytes, the session's key. */
  readonly aesKey: Bytes;
  /** 16 bytes; used only by aes-cbc. */
  readonly aesIv: Bytes;
  /** The cipher of the session's headers. */
  readonly cipher: CipherName;
  /** SniTun's version. */
  readonly protocolVersion: 0 | 1 | 2;
}

/** A token, its content, and the edge that accepts it. */
export interface Grant extends TokenGrant {
  /** The name that the agent serves. */
  readonly hostname: string;
  /** Further names. */
  readonly aliases: readonly string[];
  /** Unix seconds after which an edge refuses the token. */
  readonly valid: number;
  /** Public ports it allows, as `tcp:2222` or `tcp`. Defaults to none. */
  readonly publish?: readonly string[];
  /** The edge that the master names. */
  readonly edge: GrantEdge;
  /** For a cluster of edges: `edge` and others, best first. */
  readonly edges?: readonly GrantEdge[];
  /** How far the master's clock is ahead of this machine's, from its response. Defaults to 0. */
  readonly clockOffsetMs?: number;
}

/** An edge, as a session master names it. */
export interface GrantEdge {
  /** A name or an IP address. */
  readonly host: string;
  /** Which addresses of the name may be dialled, since a name can change its address. Defaults to all. */
  readonly permits?: AddressJudge;
  /** Its TCP port. */
  readonly port: number;
  /** 32 bytes, if the edge supports the sealed or the curve transport and the master knows its key. */
  readonly publicKey?: Bytes;
  /** Its UDP port for the curve transport. Defaults to `port`. */
  readonly curvePort?: number;
  /** Its UDP port for the QUIC transport. Defaults to `port`. */
  readonly quicPort?: number;
  /** SHA-256 of its certificate for QUIC, 32 bytes, if the master knows it. */
  readonly certificateFingerprint?: Bytes;
  /** Allowed transports, if the master names them: "snitun", "sealed", "curve", "quic". */
  readonly transports?: readonly string[];
}
