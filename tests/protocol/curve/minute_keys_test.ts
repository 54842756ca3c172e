/** MinuteKeys: cookies that live for one to two minutes (docs/protocols/curve.md, Handshake). */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import { loadSodium } from "../../../src/crypto/sodium.ts";
import { MINUTE_MS, MinuteKeys } from "../../../src/protocol/curve/minute_keys.ts";
import { COOKIE_BYTES } from "../../../src/wire/curve/curve_packet.ts";
import { pattern, seededSource } from "../../support/seeded.ts";

const sodium = await loadSodium();
const KEY: Bytes = pattern(32, 1);
const V4 = { host: "192.0.2.1", port: 4242 };
const V6 = { host: "2001:db8::1", port: 65_535 };
const START_MS = 5_000;

function keys(seed = 1): MinuteKeys {
  return new MinuteKeys(sodium, seededSource(seed), START_MS);
}

function cookie(minutes: MinuteKeys, from = V4, nowMs = START_MS): Bytes {
  const bytes = new Uint8Array(COOKIE_BYTES);
  minutes.seal(bytes, KEY, from, nowMs);
  return bytes;
}

describe("MinuteKeys", () => {
  it("open() gives the time and the minute's key pair back, for IPv4 and IPv6", () => {
    const minutes = keys();
    for (const from of [V4, V6]) {
      const opened = minutes.open(cookie(minutes, from, 5_001.25), KEY, from)!;
      assert.equal(opened.issuedAtMs, 5_001.25);
      assert.deepEqual(opened.minute.publicKey, minutes.publicKey);
      assert.deepEqual(sodium.publicKey(opened.minute.secretKey), minutes.publicKey);
    }
  });

  it("seal() makes another cookie each time, in the same millisecond too", () => {
    const minutes = keys();
    const made = new Set(Array.from({ length: 20 }, () => Buffer.from(cookie(minutes)).toString("hex")));
    assert.equal(made.size, 20);
  });

  it("seal() begins a cookie with the worker's number, and then counts", () => {
    const minutes = new MinuteKeys(sodium, seededSource(1), START_MS, 0x1234);
    const head = () => [...cookie(minutes).subarray(0, 8)];
    assert.deepEqual([head(), head()], [[0x12, 0x34, 0, 0, 0, 0, 0, 0], [0x12, 0x34, 0, 0, 0, 0, 0, 1]]);
  });

  it("open() refuses another connection key, host, port or server, any altered byte, and another length", () => {
    const minutes = keys();
    const good = cookie(minutes);
    assert.ok(minutes.open(good, KEY, V4));
    assert.equal(minutes.open(good, pattern(32, 2), V4), undefined);
    assert.equal(minutes.open(good, KEY, { ...V4, host: "192.0.2.2" }), undefined);
    assert.equal(minutes.open(good, KEY, { ...V4, port: 4243 }), undefined);
    assert.equal(minutes.open(good, KEY, { ...V4, port: 4242 + 256 }), undefined);
    assert.equal(keys(2).open(good, KEY, V4), undefined);
    for (let i = 0; i < good.length; i++) {
      const altered = good.slice();
      altered[i]! ^= 1;
      assert.equal(minutes.open(altered, KEY, V4), undefined, `byte ${i}`);
    }
    assert.equal(minutes.open(good.slice(0, -1), KEY, V4), undefined);
    assert.equal(minutes.open(new Uint8Array(COOKIE_BYTES + 1), KEY, V4), undefined);
  });

  // Addresses that are one, and addresses that differ in every group and at every place of the "::".
  const same: [string, string][] = [
    ["2001:db8:0:0:0:0:0:1", "2001:db8::1"],
    ["fe80::1%eth0", "fe80::1"],
    ["::", "0:0:0:0:0:0:0:0"],
    ["::ffff", "0:0:0:0:0:0:0:ffff"],
    ["abcd::", "abcd:0:0:0:0:0:0:0"],
    ["::ffff:c000:201", "192.0.2.1"],
  ];
  for (const [one, other] of same) {
    it(`a cookie for ${one} is one for ${other}`, () => {
      const minutes = keys();
      assert.ok(minutes.open(cookie(minutes, { host: one, port: 7 }), KEY, { host: other, port: 7 }));
    });
  }
  it("a cookie for one address is none for any other", () => {
    const groups = [1, 2, 3, 4, 5, 6, 7, 8].map((at) => {
      return Array.from({ length: 8 }, (_, i) => i === at - 1 ? "102" : "0").join(":");
    });
    const hosts = [
      ...groups,
      ...groups.map((group) => group.replace("102", "2")),
      ...groups.map((group) => group.replace("102", "100")),
      "0.0.0.1",
      "0.0.1.0",
      "0.1.0.0",
      "1.0.0.0",
      "10.0.0.0",
      "19.0.0.0",
      "91.0.0.0",
      "255.255.255.255",
      "1::2",
      "1:2::",
      "::1:2",
    ];
    const minutes = keys();
    for (const host of hosts) {
      const made = cookie(minutes, { host, port: 7 });
      const opens = hosts.filter((other) => minutes.open(made, KEY, { host: other, port: 7 }) !== undefined);
      assert.deepEqual(opens, [host]);
    }
  });

  it("rotate() changes the keys after a minute and not before", () => {
    const minutes = keys();
    const first = minutes.publicKey;
    assert.equal(minutes.rotateAtMs, START_MS + MINUTE_MS);
    assert.equal(minutes.rotate(START_MS + MINUTE_MS - 1), false);
    assert.deepEqual(minutes.publicKey, first);
    assert.equal(minutes.rotate(START_MS + MINUTE_MS), true);
    assert.notDeepEqual(minutes.publicKey, first);
    assert.equal(minutes.rotateAtMs, START_MS + 2 * MINUTE_MS);
  });

  it("a cookie is good through the next minute, and no longer", () => {
    const minutes = keys();
    const made = cookie(minutes);
    minutes.rotate(START_MS + MINUTE_MS);
    assert.ok(minutes.open(made, KEY, V4));
    minutes.rotate(START_MS + 2 * MINUTE_MS);
    assert.equal(minutes.open(made, KEY, V4), undefined);
  });

  it("after a pause of two minutes both keys are new", () => {
    const minutes = keys();
    const made = cookie(minutes);
    minutes.rotate(START_MS + 2 * MINUTE_MS - 1);
    assert.ok(minutes.open(made, KEY, V4));
    const paused = keys();
    const lost = cookie(paused);
    paused.rotate(START_MS + 2 * MINUTE_MS);
    assert.equal(paused.open(lost, KEY, V4), undefined);
    assert.equal(paused.rotateAtMs, START_MS + 3 * MINUTE_MS);
  });

  it("a key that is given up is wiped", () => {
    const minutes = keys();
    const { minute } = minutes.open(cookie(minutes), KEY, V4)!;
    minutes.rotate(START_MS + MINUTE_MS);
    assert.ok(minute.secretKey.some((byte) => byte !== 0));
    minutes.rotate(START_MS + 2 * MINUTE_MS);
    assert.ok(minute.secretKey.every((byte) => byte === 0));
    const paused = keys();
    const other = paused.open(cookie(paused), KEY, V4)!.minute;
    paused.rotate(START_MS + 2 * MINUTE_MS);
    assert.ok(other.secretKey.every((byte) => byte === 0));
  });
});
