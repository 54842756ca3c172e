/** UsedKeys: one key, one session. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type KeyUse, USED_KEYS_MAX, UsedKeys } from "../../src/edge/used_keys.ts";
import { codeOf } from "../support/code_of.ts";

const key = (n: number) => Uint8Array.of(n >> 16, n >> 8, n);
const use = (n: number, more: Partial<KeyUse> = {}): KeyUse => ({
  aesKey: key(n),
  validUntilS: 2_000,
  madeAtS: 1_500,
  repeatable: false,
  noncesRepeat: false,
  ...more,
});

describe("UsedKeys", () => {
  it("a key opens one session, unless both uses may be repeated", () => {
    const table = [[false, false, "key_reused"], [false, true, "key_reused"], [true, false, "key_reused"], [
      true,
      true,
      "none",
    ]] as const;
    for (const [first, second, code] of table) {
      const keys = new UsedKeys(() => 1_000);
      keys.use(use(1, { repeatable: first }));
      assert.equal(codeOf(() => keys.use(use(2, { repeatable: second }))), "none", "another key");
      assert.equal(codeOf(() => keys.use(use(1, { repeatable: second }))), code, `${first}, ${second}`);
    }
  });

  it("a token from before the start is refused where its nonces would repeat, one of the same second isn't", () => {
    const table = [[999, true, "token_stale"], [1_000, true, "none"], [999, false, "none"]] as const;
    for (const [madeAtS, noncesRepeat, code] of table) {
      const keys = new UsedKeys(() => 1_000.9);
      assert.equal(codeOf(() => keys.use(use(1, { madeAtS, noncesRepeat }))), code, `${madeAtS}`);
    }
    assert.throws(() => new UsedKeys(() => 1_000).use(use(1, { madeAtS: 990, noncesRepeat: true })), {
      retryable: true,
      message: /issued 10 s before/,
    });
  });

  it("after the clock was set back, tokens made since the start are taken, older ones aren't", () => {
    let startedAtS = 1_000;
    const keys = new UsedKeys(() => startedAtS);
    startedAtS -= 600;
    assert.equal(codeOf(() => keys.use(use(1, { madeAtS: 400, noncesRepeat: true }))), "none");
    assert.equal(codeOf(() => keys.use(use(2, { madeAtS: 399, noncesRepeat: true }))), "token_stale");
  });

  it("a refused token isn't noted", () => {
    const keys = new UsedKeys(() => 1_000);
    const stale = use(1, { madeAtS: 900, noncesRepeat: true });
    assert.equal(codeOf(() => keys.use(stale)), "token_stale");
    assert.equal(codeOf(() => keys.use({ ...stale, madeAtS: 1_000 })), "none");
  });

  it("sweep() forgets keys whose token has expired, and no others", () => {
    const keys = new UsedKeys(() => 1_000);
    keys.use(use(1, { validUntilS: 2_000 }));
    keys.sweep(2_000);
    assert.equal(codeOf(() => keys.use(use(1))), "key_reused");
    keys.sweep(2_001);
    assert.equal(codeOf(() => keys.use(use(1))), "none");
  });

  it("beyond USED_KEYS_MAX the oldest goes, and tokens as old as it are stale", () => {
    const keys = new UsedKeys(() => 1_000);
    keys.use(use(0, { repeatable: true, madeAtS: 1_900 }));
    keys.use(use(1, { madeAtS: 1_100 }));
    for (let n = 2; n < USED_KEYS_MAX; n++) keys.use(use(n));
    const fresh = (madeAtS: number, n = 300_000) => () => keys.use(use(n, { madeAtS, noncesRepeat: true }));
    assert.equal(codeOf(fresh(1_000)), "none");
    // Key 0 went: it may be used again anyway, so nothing is stale by that.
    assert.equal(codeOf(fresh(1_000, 300_001)), "none");
    // Key 1 went by that last use.
    assert.equal(codeOf(fresh(1_100, 300_002)), "token_stale");
    assert.equal(codeOf(fresh(1_101, 300_002)), "none");
  });
});

describe("UsedKeys: with a store", () => {
  it("asks it about keys that may not be repeated, and believes it", async () => {
    const asked: number[] = [];
    for (const [first, code] of [[true, "none"], [false, "key_reused"]] as const) {
      const keys = new UsedKeys(() => 1_000, {
        first: (_, validUntilS) => {
          asked.push(validUntilS);
          return first;
        },
      });
      assert.equal(codeOf(() => keys.use(use(1, { validUntilS: 77 }))), code);
      assert.equal(codeOf(() => keys.use(use(2, { repeatable: true }))), "none");
      assert.deepEqual(asked.splice(0), [77]);
      const later = new UsedKeys(() => 1_000, { first: () => Promise.resolve(first) });
      const outcome = Promise.resolve(later.use(use(1))).then(() => "none", (error) => error.code);
      assert.equal(await outcome, code);
    }
  });

  it("judges the age by when the store began, where it says so, and else not at all", () => {
    const old = use(1, { madeAtS: 10, noncesRepeat: true });
    const first = () => true;
    assert.equal(codeOf(() => new UsedKeys(() => 1_000, { first }).use(old)), "none");
    assert.equal(codeOf(() => new UsedKeys(() => 1_000, { first, sinceS: 10.5 }).use(old)), "none");
    assert.equal(codeOf(() => new UsedKeys(() => 1_000, { first, sinceS: 11 }).use(old)), "token_stale");
  });
});
