/**
 * Authentication by a token of the session master: a peer with the token and its key is the agent that the token was
 * issued to.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { FernetError, type FernetRing } from "../../crypto/fernet.ts";
import { tokenId, tryOpenToken } from "../../protocol/token/token.ts";
import { proveKey, splitClaim, verifyKey } from "./challenge.ts";
import type { Authenticator, TunnelCredential } from "./port.ts";

const METHOD = "token";

/** Options of {@link tokenAuthenticator}. */
export interface TokenAuthenticatorOptions {
  /** The session master's token keys. */
  readonly ring: FernetRing;
}

/**
 * Accepts tokens. The tunnel's name is the token's hostname, and it ends when the token expires; attributes are
 * `aliases` (JSON), `valid` (Unix seconds as text), `token_id`, and `extra` (JSON), the members unknown to SniTun. The
 * key in the token is proved but not revealed, so that an intercepted token is useless without its key.
 */
export function tokenAuthenticator({ ring }: TokenAuthenticatorOptions): Authenticator {
  return {
    method: METHOD,
    async verify(steps, { clock }) {
      const claim = splitClaim(await steps.receive());
      const claims = tryOpenToken(ring, claim.subject, clock.wallMs() / 1000);
      if (typeof claims === "string") throw new FernetError(claims);
      const confirmation = await verifyKey(steps, METHOD, claim, claims.aesKey);
      const text = new TextEncoder();
      return {
        name: claims.hostname,
        validUntilS: claims.valid,
        attributes: new Map([
          ["aliases", text.encode(JSON.stringify(claims.aliases))],
          ["valid", text.encode(String(claims.valid))],
          ["token_id", text.encode(tokenId(claim.subject))],
          ["extra", text.encode(JSON.stringify(claims.extra))],
        ]),
        confirmation,
      };
    },
  };
}

/** A token and the key inside it; a grant of the session master has both. */
export interface TunnelToken {
  readonly token: string;
  readonly aesKey: Bytes;
}

/** Presents a token, requested anew for each connection. */
export function tokenCredential(token: () => TunnelToken | Promise<TunnelToken>): TunnelCredential {
  return {
    method: METHOD,
    async prove(steps) {
      const { token: text, aesKey } = await token();
      return await proveKey(steps, METHOD, new TextEncoder().encode(text), aesKey);
    },
  };
}
