/** What the session master knows of a name. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { live, report } from "../conformance/store_suite.ts";
import { enrolledAgent, managedMaster } from "./managed.ts";

describe("GET /v1/names", () => {
  it("shows the name's agent, its session, when it was last seen, and why it was refused", async () => {
    const master = await managedMaster();
    const home = await enrolledAgent(master, "home", {
      hostnames: ["home.example.org", "*.home.example.org"],
    });
    const ask = async (name: string) => (await master.must(200, "GET", `/v1/names/${name}`)).body;
    assert.equal((await ask("none.example.org")).agent, null);
    assert.equal((await ask("a.home.example.org")).agent.name, "home", "by its wildcard");
    assert.deepEqual(Object.values(await ask("home.example.org")).slice(2), [null, null, null, null]);

    const session = live("s1", home.id, { hostname: "home.example.org" });
    await master.store.applyReport(report(1, { sessions: [session] }), master.time.ms);
    assert.equal((await ask("Home.example.org.")).session.edge, "edge-1");
    master.time.ms += 60_000;
    await master.store.applyReport(report(2, { closed: ["s1"] }), master.time.ms);
    const gone = await ask("home.example.org");
    assert.deepEqual([gone.session, gone.last_seen_at], [null, new Date(master.time.ms).toISOString()]);

    await master.must(200, "POST", `/v1/agents/${home.id}/suspend`);
    assert.equal((await home.token()).status, 403);
    const refused = await ask("home.example.org");
    assert.equal(refused.last_refused_at, new Date(master.time.ms).toISOString());
    assert.match(refused.last_refusal, /agent home is suspended/);
    await master.close();
  });

  it("finds the agent of a name that many others contain", async () => {
    const master = await managedMaster();
    const names = Array.from({ length: 120 }, (_, index) => `device-${index}`);
    for (const name of names) {
      await master.must(201, "POST", "/v1/agents", { name, hostnames: [`${name}.example.org`] });
    }
    await master.must(201, "POST", "/v1/agents", { name: "site", hostnames: ["example.org"] });
    const { body } = await master.must(200, "GET", "/v1/names/example.org");
    assert.equal(body.agent?.name, "site");
    await master.close();
  });

  it("shows a tenant's key only its own names", async () => {
    const master = await managedMaster();
    await enrolledAgent(master, "home");
    const { body: key } = await master.must(201, "POST", "/v1/api-keys", {
      name: "others",
      scopes: ["read"],
      tenant: "others",
    });
    const headers = { Authorization: `Bearer ${key.key}` };
    for (const name of ["home.example.org", "none.example.org"]) {
      await master.must(404, "GET", `/v1/names/${name}`, undefined, headers);
    }
    await master.must(422, "GET", "/v1/names/-bad..name");
    await master.close();
  });
});
