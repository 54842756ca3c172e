import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { EDGES_PER_AGENT_MAX, INSTANCE, routeGroup } from "../../src/wire/token/route_group.ts";

describe("routeGroup", () => {
  const of = (extra: Record<string, unknown>) => routeGroup("a.example.org", extra, "id");

  it("puts sessions of one run and number of edges into one group, each as a member of its own", () => {
    const [first, second] = [of({ instance: "run-12345.0/2" }), of({ instance: "run-12345.1/2" })];
    assert.equal(first.group, second.group);
    assert.notEqual(first.member, second.member);
    // Sessions that may have more each are of another group: the groups replace one another.
    assert.notEqual(of({ instance: "run-12345.0/1" }).group, first.group);
    assert.notEqual(of({ instance: "run-99999.0/2" }).group, first.group);
  });

  it("has a member for each of EDGES_PER_AGENT_MAX edges", () => {
    const edges = EDGES_PER_AGENT_MAX;
    for (let number = 0; number < edges; number++) {
      const name = `run-12345.${number}`;
      assert.match(name, INSTANCE);
      assert.equal(of({ instance: `${name}/${edges}` }).member, name);
    }
    assert.equal(of({ instance: `run-12345.0/${edges + 1}` }).member, undefined);
    assert.doesNotMatch(`run-12345.${edges}`, INSTANCE);
  });

  it("takes nothing else for a session among several", () => {
    const alone = { group: "token:id", member: undefined };
    for (const instance of ["run-12345.2/2", "run-12345.0", "run-12345.0/5", "short.0/2", "", 7, undefined]) {
      assert.deepEqual(of({ instance }), alone, String(instance));
    }
  });

  it("lets agents that share a name stand together, with several sessions each", () => {
    const shared = (agent: string, instance?: string) => of({ shared: agent, instance });
    assert.equal(shared("agent-one").group, shared("agent-two").group);
    assert.notEqual(shared("agent-one").member, shared("agent-two").member);
    assert.notEqual(shared("agent-one", "run-12345.0/2").member, shared("agent-one", "run-12345.1/2").member);
  });
});
