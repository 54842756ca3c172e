/**
 * Authentication by a token of the session master: a peer with the token and its key is the agent that the token was made for.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { FernetError, type FernetRing } from "../../crypto/fernet.ts";
import { tokenId, tryOpenToken } from "../../protocol/token/token.ts";
import { proveKey, splitClaim, verifyKey } from "./challenge.ts";
import type { Authenticator, TunnelCredential } from "./port.ts";

const METHOD = "token";

/** What {@link tokenAuthenticator} takes. */
export interface TokenAuthenticatorOptions {
  /** The keys with which the session master makes tokens. */
  readonly ring: FernetRing;
}

/**
 * Takes tokens. The tunnel's name is the token's hostname, and it ends when the token expires; attributes are `aliases` (JSON), `valid` (Unix seconds in
 * text), `token_id`, and `extra` (JSON), the members that SniTun doesn't know. The key in the token is proved and not
 * shown, so that an overheard token is useless without its key.
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

/** A token, and the key that stands in it; a grant of the session master has both. */
export interface TunnelToken {
  readonly token: string;
  readonly aesKey: Bytes;
}

/** Shows a token, fresh for each connection. */
export function tokenCredential(token: () => TunnelToken | Promise<TunnelToken>): TunnelCredential {
  return {
    method: METHOD,
    async prove(steps) {
      const { token: text, aesKey } = await token();
      return await proveKey(steps, METHOD, new TextEncoder().encode(text), aesKey);
    },
  };
}
