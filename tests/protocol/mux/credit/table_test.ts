/** CreditTable: which numbers the two sides may use, and what they name. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { CreditStream } from "../../../../src/protocol/mux/credit/stream.ts";
import { CreditTable } from "../../../../src/protocol/mux/credit/table.ts";
import { codeOf } from "../../../support/code_of.ts";

const AGENTS = 0x8000_0000;
const stream = (lane: number) => ({ lane }) as CreditStream<number>;

describe("CreditTable", () => {
  for (const [role, own, peers] of [["edge", 0, AGENTS], ["agent", AGENTS, 0]] as const) {
    it(`${role}: takeOwn() counts from ${own} + 1`, () => {
      const table = new CreditTable(role);
      assert.deepEqual([table.takeOwn(), table.takeOwn()], [own + 1, own + 2]);
      assert.equal(table.usedUp, false);
    });

    it(`${role}: takePeers() takes larger numbers of the peer's half alone`, () => {
      const table = new CreditTable(role);
      const code = (number: number) => codeOf(() => table.takePeers(number));
      assert.deepEqual([peers, own + 1].map(code), ["frame_invalid", "frame_invalid"]);
      assert.deepEqual([peers + 1, peers + 5].map(code), ["none", "none"]);
      assert.deepEqual([peers + 5, peers + 4].map(code), ["frame_invalid", "frame_invalid"]);
      assert.deepEqual([peers + 6, peers + AGENTS - 1].map(code), ["none", "none"]);
    });

    it(`${role}: find() knows streams, those that are over, and none that was never opened`, () => {
      const table = new CreditTable(role);
      const [mine, theirs] = [stream(table.takeOwn()), stream(peers + 3)];
      table.takePeers(peers + 3);
      table.add(mine);
      table.add(theirs);
      assert.deepEqual([table.find(own + 1), table.find(peers + 3)], [mine, theirs]);
      assert.equal(table.find(peers + 2), undefined, "left out");
      for (const number of [own, own + 2, peers, peers + 4]) {
        assert.equal(codeOf(() => table.find(number)), "frame_invalid", `${number}`);
      }
      table.remove(mine);
      assert.deepEqual([table.find(own + 1), table.find(peers + 3)], [undefined, theirs]);
    });
  }
});
