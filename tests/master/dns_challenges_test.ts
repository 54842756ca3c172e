/** DNS records that the session master sets for its agents: whose, how many, and for how long. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { MASTER_DNS_POLL_MS, masterDnsHook } from "../../src/agent/acme/master_dns.ts";
import type { DnsHook, DnsRecord } from "../../src/dns/dns_hook.ts";
import {
  DNS_CHALLENGE_KEPT_MS,
  DNS_CHALLENGE_WAIT_MS,
  DNS_CHALLENGES_PER_AGENT_MAX,
  DnsChallenges,
} from "../../src/master/dns_challenges.ts";
import { silentLogger } from "../../src/telemetry/log.ts";
import { until } from "../support/until.ts";
import { VirtualClock } from "../support/virtual_clock.ts";
import { enrolledAgent, managedMaster } from "./managed.ts";

const VALUE = "v".repeat(43);
const record = (domain: string, value = VALUE): DnsRecord => ({
  domain,
  name: `_acme-challenge.${domain}`,
  value,
});

/** A master whose program is this hook, with an agent that has a wildcard. */
async function start(present: DnsHook["present"] = () => Promise.resolve(), withHook = true) {
  const calls: string[] = [];
  const clock = new VirtualClock();
  const hook: DnsHook = {
    present: (asked) => {
      calls.push(`present ${asked.name} ${asked.value[0]}`);
      return present(asked);
    },
    cleanUp: (asked) => Promise.resolve(void calls.push(`cleanup ${asked.name} ${asked.value[0]}`)),
  };
  const challenges = withHook ? new DnsChallenges({ hook, clock, log: silentLogger }) : undefined;
  const master = await managedMaster({ dnsChallenges: challenges });
  const home = await enrolledAgent(master, "home", { hostnames: ["home.example.org", "*.home.example.org"] });
  const ask = (domain: string, method = "PUT", value = VALUE, agent = home) => {
    const path = `/v1/dns-challenges/${domain}/${value}`;
    return master.call(method, path, undefined, { Authorization: `Bearer ${agent.proof(path, method)}` });
  };
  return { master, home, challenges, calls, clock, ask };
}

describe("DnsChallenges", () => {
  it("are set for an agent's own wildcard, and removed", async () => {
    const { ask, calls, master } = await start();
    assert.equal((await ask("home.example.org")).status, 204);
    assert.equal((await ask("home.example.org")).status, 204, "repeated");
    assert.equal((await ask("home.example.org", "DELETE")).status, 204);
    assert.deepEqual(calls, [
      "present _acme-challenge.home.example.org v",
      "cleanup _acme-challenge.home.example.org v",
    ]);
    await master.close();
  });

  it("are refused for names that prove more than the agent has", async () => {
    const { ask, calls, master, home } = await start();
    const other = await enrolledAgent(master, "other", {
      hostnames: ["other.example.org", "*.sub.example.org"],
    });
    await enrolledAgent(master, "third", { hostnames: ["sub.example.org", "*.third.example.org"] });
    const cases: readonly [string, typeof home, string][] = [
      ["example.org", home, "no wildcard of its own"],
      ["other.example.org", other, "an exact name alone: the record would prove its wildcard too"],
      ["sub.example.org", other, "the bare name belongs to another agent"],
      ["third.example.org", home, "another agent's wildcard"],
      ["home.example.org", other, "another agent's names"],
    ];
    for (const [domain, agent, why] of cases) {
      assert.equal((await ask(domain, "PUT", VALUE, agent)).status, 403, why);
      assert.equal((await ask(domain, "DELETE", VALUE, agent)).status, 403, why);
    }
    assert.equal((await ask("home.example.org", "PUT", "short")).status, 422);
    assert.equal((await ask("-home..org")).status, 422);
    assert.equal(
      (await master.call("PUT", `/v1/dns-challenges/a.example.org/${VALUE}`, undefined, {
        Authorization: "Bearer wrong",
      })).status,
      401,
    );
    await master.must(200, "POST", `/v1/agents/${home.id}/suspend`);
    const suspended = await ask("home.example.org");
    assert.deepEqual([suspended.status, suspended.body.detail], [
      403,
      "Cannot set DNS record: agent home is suspended",
    ]);
    assert.deepEqual(calls, []);
    await master.close();
  });

  it("are waited for, and a program that fails is tried again", async () => {
    let program = Promise.withResolvers<void>();
    const { ask, calls, clock, master } = await start(() => program.promise);
    const first = ask("home.example.org");
    await until(() => calls.length === 1);
    await clock.advance(DNS_CHALLENGE_WAIT_MS);
    const late = await first;
    assert.deepEqual([late.status, late.headers.get("retry-after")], [202, "5"]);
    program.reject(new Error("a secret of the operator's"));
    const failed = await ask("home.example.org");
    assert.equal(failed.status, 503);
    assert.doesNotMatch(JSON.stringify(failed.body), /secret/);
    program = Promise.withResolvers();
    program.resolve();
    assert.equal((await ask("home.example.org")).status, 204);
    assert.equal(calls.length, 2);
    await master.close();
  });

  it("don't outlive their time or the master, and are bounded", async () => {
    const { ask, calls, clock, master, challenges } = await start();
    const value = (index: number) => String.fromCharCode(97 + index).repeat(43);
    for (let index = 0; index < DNS_CHALLENGES_PER_AGENT_MAX; index++) {
      assert.equal((await ask("home.example.org", "PUT", value(index))).status, 204);
    }
    assert.equal((await ask("home.example.org", "PUT", VALUE)).status, 429);
    await clock.advance(DNS_CHALLENGE_KEPT_MS);
    await until(() =>
      calls.filter((call) => call.startsWith("cleanup")).length === DNS_CHALLENGES_PER_AGENT_MAX
    );
    assert.equal((await ask("home.example.org", "PUT", VALUE)).status, 204);
    await challenges?.close();
    assert.equal(calls.at(-1), "cleanup _acme-challenge.home.example.org v");
    await master.close();
  });

  it("reach the agent's certificates, or it learns what is missing", async () => {
    const { home, calls, clock, master } = await start();
    const client = (from: typeof master, agent: typeof home) =>
      masterDnsHook({
        master: "http://127.0.0.1:1",
        credential: { authorization: ({ method, path }) => `Bearer ${agent.proof(path, method)}` },
        clock,
        fetch: (request) => from.request(new URL(request.url).pathname, request),
      });
    const dns = client(master, home);
    await dns.present(record("home.example.org"));
    await dns.cleanUp(record("home.example.org"));
    assert.equal(calls.length, 2);
    await assert.rejects(dns.present(record("example.org")), /credential refused: it answered 403/);
    await master.close();

    const bare = await start(undefined, false);
    await assert.rejects(
      client(bare.master, bare.home).present(record("home.example.org")),
      /start the session master with --acme-dns-hook PROGRAM, or give the agent one/,
    );
    await bare.master.close();

    const program = Promise.withResolvers<void>();
    const slow = await start(() => program.promise);
    let answers = 0;
    const patient = masterDnsHook({
      master: "http://127.0.0.1:1",
      credential: { authorization: ({ method, path }) => `Bearer ${slow.home.proof(path, method)}` },
      clock: slow.clock,
      fetch: async (request) => {
        const answer = slow.master.request(new URL(request.url).pathname, request);
        void answer.then(() => answers++);
        return await answer;
      },
    });
    const set = patient.present(record("home.example.org"));
    await until(() => slow.calls.length === 1);
    await slow.clock.advance(DNS_CHALLENGE_WAIT_MS);
    await until(() => answers === 1);
    program.resolve();
    await until(async () => {
      await slow.clock.advance(MASTER_DNS_POLL_MS);
      return answers === 2;
    });
    await set;
    await slow.master.close();
  });
});
