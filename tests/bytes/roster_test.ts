import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { NO_PLACE, Roster } from "../../src/bytes/roster.ts";

class Member {
  place = NO_PLACE;
  otherPlace = NO_PLACE;
  constructor(readonly number: number) {}
}

describe("Roster", () => {
  it("holds what a Set holds, whatever is added and deleted", () => {
    const step = fc.record({ adds: fc.boolean(), index: fc.nat(7) });
    fc.assert(fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const members = Array.from({ length: 8 }, (_, number) => new Member(number));
      const [roster, set] = [new Roster<"place", Member>("place"), new Set<Member>()];
      for (const { adds, index } of steps) {
        const member = members[index]!;
        if (adds) {
          roster.add(member);
          set.add(member);
        } else assert.equal(roster.delete(member), set.delete(member));
        assert.equal(roster.size, set.size);
        assert.deepEqual(new Set(roster), set);
        for (const one of members) assert.equal(roster.has(one), set.has(one));
      }
    }));
  });

  it("visits each member that stays, whatever is deleted meanwhile", () => {
    const deletion = fc.record({ at: fc.nat(7), index: fc.nat(7) });
    fc.assert(fc.property(fc.array(deletion, { maxLength: 12 }), (deletions) => {
      const members = Array.from({ length: 8 }, (_, number) => new Member(number));
      const roster = new Roster<"place", Member>("place");
      for (const member of members) roster.add(member);
      const visited = new Set<Member>();
      for (const member of roster) {
        assert.ok(roster.has(member));
        visited.add(member);
        for (const { at, index } of deletions) if (at === member.number) roster.delete(members[index]!);
      }
      for (const member of members) if (roster.has(member)) assert.ok(visited.has(member));
    }));
  });

  it("doesn't touch another roster's members, nor its own in another", () => {
    const member = new Member(1);
    const rosters = [new Roster<"place", Member>("place"), new Roster<"otherPlace", Member>("otherPlace")];
    for (const roster of rosters) roster.add(member);
    assert.equal(rosters[0]!.delete(member), true);
    assert.deepEqual([...rosters[1]!], [member]);
    const stranger = new Roster<"otherPlace", Member>("otherPlace");
    assert.deepEqual([stranger.has(member), stranger.delete(member), member.otherPlace], [false, false, 0]);
  });
});
