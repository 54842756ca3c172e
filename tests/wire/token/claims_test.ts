/** What tokens say of transports and agents, join links, and the day of a time. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { dayOf } from "../../../src/calendar.ts";
import { agentMembers, LIMIT_NAMES, readAgentClaim } from "../../../src/wire/token/agent_claim.ts";
import { formatJoinLink, parseJoinLink } from "../../../src/wire/token/join_link.ts";
import { tokenTransports, TRANSPORT_NAME, TRANSPORTS_MAX } from "../../../src/wire/token/claims.ts";

describe("tokenTransports()", () => {
  const cases: [string, unknown, readonly string[] | undefined][] = [
    ["nothing allows any", undefined, undefined],
    ["a list allows its names", ["curve", "quic"], ["curve", "quic"]],
    ["what isn't a name is passed over", ["curve", 7, null], ["curve"]],
    ["an empty list allows none", [], []],
    ["what isn't a list allows none", "curve", []],
  ];
  for (const [name, transports, expected] of cases) {
    it(name, () => assert.deepEqual(tokenTransports({ transports }), expected));
  }
  it("TRANSPORT_NAME takes 1 to 32 characters and TRANSPORTS_MAX is 16", () => {
    assert.ok(TRANSPORT_NAME.test("a") && TRANSPORT_NAME.test(`a${"-".repeat(31)}`));
    for (const name of ["", "A", "1a", `a${"-".repeat(32)}`]) assert.ok(!TRANSPORT_NAME.test(name), name);
    assert.equal(TRANSPORTS_MAX, 16);
  });
});

describe("readAgentClaim()", () => {
  const full = {
    id: "agent-1",
    tenant: "home",
    generation: 3,
    limits: Object.fromEntries(LIMIT_NAMES.map((name, i) => [name, i])),
    month: { month: "2026-11", bytes: 5 },
    agentNetworks: ["192.0.2.0/24"],
    visitorNetworks: ["2001:db8::/32"],
  };
  it("reads what agentMembers() wrote, a limit of 0 too", () => {
    assert.deepEqual(readAgentClaim(agentMembers(full)), full);
  });
  it("nothing is a claim for a name alone", () => {
    const none = { generation: 0, limits: {}, agentNetworks: [], visitorNetworks: [] };
    assert.deepEqual(readAgentClaim({}), none);
    assert.deepEqual(agentMembers(none), {});
  });
  it("an id or a tenant is 1 to 300 characters long, as in an edge's reports, or absent", () => {
    for (const [length, taken] of [[0, false], [1, true], [300, true], [301, false]] as const) {
      const text = "x".repeat(length);
      const { id, tenant } = readAgentClaim({ agent: { id: text, tenant: text } });
      assert.deepEqual([id, tenant], taken ? [text, text] : [undefined, undefined], `${length}`);
    }
  });
  it("what isn't understood counts as absent", () => {
    const odd = {
      agent: { id: 7, tenant: 8, generation: "9" },
      limits: { sessions: -1, streams: "many", monthly_bytes: 5, other: 6 },
      month: { month: "2026-11" },
      agent_networks: "all",
      visitor_networks: [7, "192.0.2.0/24"],
    };
    assert.deepEqual(readAgentClaim(odd), {
      generation: 0,
      limits: { monthly_bytes: 5 },
      agentNetworks: [],
      visitorNetworks: ["192.0.2.0/24"],
    });
    for (const agent of [null, [], "agent"]) {
      assert.equal(readAgentClaim({ agent, limits: agent }).id, undefined);
    }
    assert.equal(readAgentClaim({ month: { month: 11, bytes: 5 } }).month, undefined);
  });
});

describe("parseJoinLink()", () => {
  const code = "abcdefghijklmnop";
  it("reads what formatJoinLink() wrote, without slashes at the end", () => {
    for (
      const [master, text] of [
        ["https://master.example.org", `https://master.example.org/#${code}`],
        ["http://127.0.0.1:8080/base//", `http://127.0.0.1:8080/base/#${code}`],
      ] as const
    ) {
      assert.equal(formatJoinLink({ master, code }), text);
      assert.deepEqual(parseJoinLink(text), { master: master.replace(/\/+$/, ""), code });
    }
  });
  const wrong: [string, string][] = [
    ["no code", "https://master.example.org/"],
    ["a short code", `https://master.example.org/#${code.slice(1)}`],
    ["a long code", `https://master.example.org/#${"a".repeat(129)}`],
    ["two codes", `https://master.example.org/#${code}#${code}`],
    ["no place", `#${code}`],
    ["another scheme", `ftp://master.example.org/#${code}`],
    ["a query", `https://master.example.org/?a=1#${code}`],
    ["a user", `https://user@master.example.org/#${code}`],
  ];
  for (const [name, text] of wrong) {
    it(`is undefined for ${name}`, () => assert.equal(parseJoinLink(text), undefined));
  }
});

describe("dayOf()", () => {
  it("is the day in UTC", () => {
    assert.equal(dayOf(Date.UTC(2026, 10, 27, 23, 59, 59, 999)), "2026-11-27");
    assert.equal(dayOf(Date.UTC(2026, 10, 28)), "2026-11-28");
  });
});
