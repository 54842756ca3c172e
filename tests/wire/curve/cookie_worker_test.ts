import assert from "node:assert/strict";
import { test } from "node:test";
import { KEY_BYTES } from "../../../src/crypto/sodium.ts";
import { cookieWorker } from "../../../src/wire/curve/curve_packet.ts";

test("cookieWorker: the two bytes of an INIT after its connection key, high byte first", () => {
  const init = Uint8Array.from({ length: 4 + KEY_BYTES + 3 }, (_, i) => i);
  assert.equal(cookieWorker(init), ((4 + KEY_BYTES) << 8) | (5 + KEY_BYTES));
});
