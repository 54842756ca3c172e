import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { AlertDescription, decodeAlert, encodeAlert } from "../../../src/wire/tls/tls_alert.ts";

describe("encodeAlert and decodeAlert", () => {
  it("have the numbers of RFC 8446, section 6", () => {
    assert.deepEqual({ ...AlertDescription }, {
      unexpected_message: 10,
      record_overflow: 22,
      handshake_failure: 40,
      access_denied: 49,
      decode_error: 50,
      protocol_version: 70,
      internal_error: 80,
      missing_extension: 109,
      unrecognized_name: 112,
      no_application_protocol: 120,
    });
  });

  it("are fatal, in a record of their own", () => {
    assert.deepEqual([...encodeAlert(112)], [21, 3, 3, 0, 2, 2, 112]);
    assert.equal(decodeAlert(Uint8Array.of(21, 3, 1, 0, 2, 2, 40)), 40);
  });

  it("decodeAlert() takes nothing else for one", () => {
    const alert = encodeAlert(40);
    for (const [at, value] of [[0, 22], [1, 2], [3, 1], [4, 3], [5, 1]] as const) {
      const other = alert.slice();
      other[at] = value;
      assert.equal(decodeAlert(other), undefined, `byte ${at}`);
    }
    assert.equal(decodeAlert(alert.slice(0, 6)), undefined);
    assert.equal(decodeAlert(Uint8Array.from([...alert, 0])), undefined);
  });
});
