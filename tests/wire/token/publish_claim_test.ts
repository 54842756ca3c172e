import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  claimsAllow,
  formatPublishClaim,
  parsePublishClaim,
  publishClaims,
  PUBLISHED_PORTS_MAX,
} from "../../../src/wire/token/claims.ts";

describe("parsePublishClaim and publishClaims", () => {
  it("are one port, or any one", () => {
    assert.deepEqual(parsePublishClaim("tcp"), {});
    assert.deepEqual(parsePublishClaim("tcp:0"), {});
    assert.deepEqual(parsePublishClaim("tcp:1"), { port: 1 });
    assert.deepEqual(parsePublishClaim("tcp:65535"), { port: 65_535 });
    for (const text of ["tcp", "tcp:1", "tcp:65535"]) {
      assert.equal(formatPublishClaim(parsePublishClaim(text)!), text);
    }
    const wrong = [
      "",
      "TCP",
      "udp:1",
      "tcp:",
      "tcp:65536",
      "tcp:01",
      "tcp:1\n",
      "tcp:-1",
      "tcp:1-2",
      7,
      null,
      ["tcp"],
    ];
    for (const text of wrong) assert.equal(parsePublishClaim(text), undefined, JSON.stringify(text));
  });

  it("are read from a token's members; what isn't understood allows nothing", () => {
    assert.deepEqual(publishClaims({ publish: ["tcp", "tcp:22", "quic:1"] }), [{}, { port: 22 }]);
    for (const publish of [undefined, null, "tcp", { 0: "tcp" }, 7]) {
      assert.deepEqual(publishClaims({ publish }), []);
    }
    assert.deepEqual(publishClaims({ publish: new Array(PUBLISHED_PORTS_MAX + 1).fill("tcp") }), []);
    assert.deepEqual(publishClaims({}), []);
  });

  it("allow their port, and with any one every one", () => {
    assert.equal(claimsAllow([], undefined), false);
    assert.equal(claimsAllow([], 22), false);
    assert.equal(claimsAllow([{ port: 22 }], 22), true);
    assert.equal(claimsAllow([{ port: 22 }], 23), false);
    assert.equal(claimsAllow([{ port: 22 }], undefined), false);
    assert.equal(claimsAllow([{ port: 22 }, {}], 23), true);
    assert.equal(claimsAllow([{}], undefined), true);
  });
});
