import { describe, it } from "node:test";
import assert from "node:assert/strict";
import {
  adminCredentials,
  patternCovers,
  type StaticCredential,
  staticCredentials,
} from "../../src/master/credentials.ts";

const USE = { method: "POST", path: "/v1/tokens" };

describe("patternCovers", () => {
  const cases: [pattern: string, hostname: string, covers: boolean][] = [
    ["a.example.org", "a.example.org", true],
    ["a.example.org", "b.a.example.org", false],
    ["example.org", "a.example.org", false],
    ["*.example.org", "a.example.org", true],
    ["*.example.org", "a.b.example.org", true],
    ["*.example.org", "example.org", false],
    ["*.example.org", ".example.org", false],
    ["*.example.org", "badexample.org", false],
    ["*.example.org", "a.example.org.evil", false],
    ["*", "a", true],
    ["*", "a.b.c", true],
  ];
  for (const [pattern, hostname, covers] of cases) {
    it(`${pattern} ${covers ? "covers" : "doesn't cover"} ${hostname}`, () => {
      assert.equal(patternCovers(pattern, hostname), covers);
    });
  }
});

describe("staticCredentials", () => {
  const list: StaticCredential[] = [
    { id: "one", key: "key-1", names: ["*.Example.org.", "solo.example.net"] },
    { id: "two", key: "key-2", names: [] },
  ];

  it("finds a credential by exactly its key", async () => {
    const credentials = staticCredentials(list);
    assert.equal((await credentials.find("key-1", USE))?.id, "one");
    assert.equal((await credentials.find("key-2", USE))?.id, "two");
    for (const key of ["", "key-", "key-11", "KEY-1", "key-1 ", "key-3"]) {
      assert.equal(await credentials.find(key, USE), undefined, key);
    }
  });

  it("gives each the names of its patterns, in any case", async () => {
    const credentials = staticCredentials(list);
    const one = await credentials.find("key-1", USE);
    assert.equal(one?.mayServe("a.example.org"), true);
    assert.equal(one?.mayServe("solo.example.net"), true);
    assert.equal(one?.mayServe("a.example.net"), false);
    assert.equal((await credentials.find("key-2", USE))?.mayServe("a.example.org"), false);
  });

  it("gives public ports where they are named, and refuses what is none", async () => {
    const list = [
      { id: "one", key: "key-1", names: [], publish: ["tcp:22"] },
      { id: "any", key: "key-2", names: [], publish: ["tcp"] },
      { id: "none", key: "key-3", names: ["*"] },
    ];
    const credentials = staticCredentials(list);
    const may = async (key: string) =>
      await Promise.all(
        ["tcp:22", "tcp:23", "tcp"].map(async (port) =>
          (await credentials.find(key, USE))?.mayPublish?.(port)
        ),
      );
    assert.deepEqual(await may("key-1"), [true, false, false]);
    assert.deepEqual(await may("key-2"), [true, true, true]);
    assert.deepEqual(await may("key-3"), [false, false, false]);
    assert.throws(() => staticCredentials([{ id: "x", key: "k", names: [], publish: ["22"] }]), {
      code: "config_invalid",
      message: "Cannot use credential x: 22 isn't a public port: tcp:2222, tcp or *",
    });
  });

  it("holds no key in what it returns", async () => {
    const credentials = staticCredentials(list);
    const found = await credentials.find("key-1", USE);
    assert.ok(!JSON.stringify([credentials, found]).includes("key-1"));
  });

  it("refuses what can't be meant", () => {
    const bad: [StaticCredential[], RegExp][] = [
      [[{ id: "a", key: "", names: [] }], /credential a: its key is empty/],
      [[{ id: "a", key: "k", names: [] }, { id: "a", key: "l", names: [] }], /the id occurs twice/],
      [[{ id: "a", key: "k", names: [] }, { id: "b", key: "k", names: [] }], /a has the same key/],
      ...["a.*.org", "**", "*a.org", "", "a..b", "a b"].map((name): [StaticCredential[], RegExp] => [
        [{ id: "a", key: "k", names: [name] }],
        /isn't a name/,
      ]),
    ];
    for (const [list, message] of bad) {
      assert.throws(() => staticCredentials(list), { code: "config_invalid", side: "config", message });
    }
  });
});

describe("adminCredentials", () => {
  it("may serve any name", async () => {
    const admin = await adminCredentials("secret").find("secret", USE);
    assert.equal(admin?.id, "admin");
    assert.equal(admin?.mayServe("any.name.at.all"), true);
    assert.equal(await adminCredentials("secret").find("Secret", USE), undefined);
  });

  it("refuses an empty key", () => {
    assert.throws(() => adminCredentials(""), { code: "config_invalid" });
  });
});
