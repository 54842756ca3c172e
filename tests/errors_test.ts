/** Errors tell the truth: a code, whose doing it is, and never the peer's fault for one of ours. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { errorCode, errorMessage, InternalError, internalError, SallyportError } from "../src/errors.ts";
import { codeOfWire, wireCode } from "../src/wire/curve/error_number.ts";
import {
  CREDIT_HEADER_BYTES,
  CreditFrame,
  decodeReason,
  encodeReason,
} from "../src/wire/credit/credit_frame.ts";

test("SallyportError: says what the details say, and isn't retryable unless they say so", () => {
  const error = new SallyportError("token_expired", "Cannot accept token: it expired", { side: "peer" });
  assert.deepEqual([error.code, error.side, error.retryable, error.cause], [
    "token_expired",
    "peer",
    false,
    undefined,
  ]);
});

test("errorCode: is internal for whatever isn't a SallyportError", () => {
  for (const foreign of [new TypeError("x"), "text", undefined, null, { code: "token_expired" }]) {
    assert.equal(errorCode(foreign), "internal");
  }
});

test("internalError: keeps a SallyportError, and makes anything else a fault of this side with its cause", () => {
  const known = new SallyportError("shutdown", "Cannot go on: it stops", { side: "local" });
  assert.equal(internalError("session", known), known);
  const cause = new TypeError("undefined is not\n a function");
  const error = internalError("stream", cause);
  assert.ok(error instanceof InternalError);
  assert.deepEqual([error.code, error.side, error.where, error.cause], [
    "internal",
    "local",
    "stream",
    cause,
  ]);
  assert.equal(errorMessage(error), "Internal error (stream): undefined is not a function");
});

test("internal: crosses the network as aborted, since a fault of this side is no business of the peer's", () => {
  assert.equal(codeOfWire(wireCode("internal")), "aborted");
  const frame = encodeReason(CreditFrame.RESET, 1, "internal");
  assert.equal(decodeReason(frame.subarray(CREDIT_HEADER_BYTES)), "aborted");
});
