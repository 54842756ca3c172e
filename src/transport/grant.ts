/**
 * A grant: what the session master gives an agent for one session, that is a token, its content, and the edge to dial.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import type { CipherName } from "../crypto/header_cipher.ts";

/** A token, and what of it opens a session. */
export interface TokenGrant {
  /** What the edge wants to see. */
  readonly token: string;
  /** 32 bytes, the session's key. */
  readonly aesKey: Bytes;
  /** 16 bytes; aes-cbc alone uses them. */
  readonly aesIv: Bytes;
  /** The cipher of the session's headers. */
  readonly cipher: CipherName;
  /** SniTun's version. */
  readonly protocolVersion: 0 | 1 | 2;
}

/** A token, what stands in it, and the edge that takes it. */
export interface Grant extends TokenGrant {
  /** The name that the agent serves. */
  readonly hostname: string;
  /** Further names. */
  readonly aliases: readonly string[];
  /** Unix seconds after which an edge refuses the token. */
  readonly valid: number;
  /** Public ports that it allows, as `tcp:2222` or `tcp`; none where the master doesn't say. */
  readonly publish?: readonly string[];
  /** The edge that the master names. */
  readonly edge: GrantEdge;
  /** Where the edges are a cluster: `edge` and others, the best first. */
  readonly edges?: readonly GrantEdge[];
  /** How far the master's clock is ahead of this machine's, as its answer says; 0 where it doesn't. */
  readonly clockOffsetMs?: number;
}

/** An edge, as a session master names it. */
export interface GrantEdge {
  /** A name or an IP address. */
  readonly host: string;
  /** Its TCP port. */
  readonly port: number;
  /** 32 bytes, where the edge speaks the sealed or the curve transport and the master knows it. */
  readonly publicKey?: Bytes;
  /** Its UDP port for the curve transport; `port` where the master doesn't say. */
  readonly curvePort?: number;
  /** Its UDP port for the QUIC transport; `port` where the master doesn't say. */
  readonly quicPort?: number;
  /** SHA-256 of its certificate for QUIC, 32 bytes, where the master knows it. */
  readonly certificateFingerprint?: Bytes;
  /** How sessions may cross the network to it, where the master says: "snitun", "sealed", "curve", "quic". */
  readonly transports?: readonly string[];
}
