/** OidcProvider: how long it believes what it was told, and what it does while the provider is away. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { OidcProvider, PROVIDER_REFRESH_MS, PROVIDER_RETRY_MS } from "../../src/oidc/provider.ts";
import { VirtualClock } from "../support/virtual_clock.ts";

const ISSUER = "https://id.example.org/";

describe("OidcProvider", () => {
  it("asks once an hour, and keeps what it knows while the provider is away", async () => {
    const clock = new VirtualClock();
    let asked = 0;
    let isAway = true;
    const provider = new OidcProvider({
      issuer: ISSUER,
      clock,
      fetch: () => {
        asked++;
        if (isAway) return Promise.reject(new Error("away"));
        return Promise.resolve(Response.json({ issuer: ISSUER, jwks_uri: `${ISSUER}keys/${asked}` }));
      },
    });
    await assert.rejects(provider.metadata(), /away/);
    isAway = false;
    const first = await provider.metadata();
    assert.equal(await provider.metadata(), first);
    assert.equal(asked, 2);
    isAway = true;
    await clock.advance(PROVIDER_REFRESH_MS);
    assert.equal(await provider.metadata(), first);
    assert.equal(await provider.metadata(), first);
    assert.equal(asked, 3);
    isAway = false;
    await clock.advance(PROVIDER_RETRY_MS);
    assert.equal((await provider.metadata()).jwks_uri, `${ISSUER}keys/4`);
  });
});
