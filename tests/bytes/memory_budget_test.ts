/** The bytes that wait in a process: shares of what is left, and the fullest that end. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { NO_PLACE } from "../../src/bytes/roster.ts";
import { MemoryBudget, type MemoryHolder, SESSION_SHARE_MIN_BYTES } from "../../src/bytes/memory_budget.ts";

const MiB = 1024 * 1024;

class Holder implements MemoryHolder {
  holderPlace = NO_PLACE;
  evicted = false;
  constructor(readonly budget: MemoryBudget, public heldBytes: number) {
    budget.enter(this);
    budget.hold(heldBytes);
  }
  evict(): void {
    this.evicted = true;
    this.budget.letGo(this.heldBytes);
    this.heldBytes = 0;
  }
}

function budgetOf(limitBytes: number): { budget: MemoryBudget; turn: () => void } {
  const due: (() => void)[] = [];
  const budget = new MemoryBudget((run) => void due.push(run));
  budget.limitBytes = limitBytes;
  return { budget, turn: () => due.splice(0).forEach((run) => run()) };
}

test("the fullest ends first, after the event that overflows, until an eighth is free", () => {
  const { budget, turn } = budgetOf(80);
  const [small, large, larger] = [10, 30, 38].map((bytes) => new Holder(budget, bytes));
  turn();
  assert.equal(budget.evictions, 0);
  const last = new Holder(budget, 9);
  assert.deepEqual([budget.evictions, budget.heldBytes], [0, 87], "nothing ends within the call");
  turn();
  assert.deepEqual([small, large, larger, last].map((holder) => holder!.evicted), [
    false,
    false,
    true,
    false,
  ]);
  assert.deepEqual([budget.evictions, budget.heldBytes], [1, 49]);
});

test("a member that has left isn't ended", () => {
  const { budget, turn } = budgetOf(80);
  const gone = new Holder(budget, 60);
  budget.leave(gone);
  const other = new Holder(budget, 50);
  turn();
  assert.deepEqual([gone.evicted, other.evicted], [false, true]);
});

test("sessions share what is left: many who hold all they may don't reach the limit", () => {
  for (const sessions of [1, 20, 100]) {
    const { budget } = budgetOf(256 * MiB);
    const held = Array.from({ length: sessions }, () => 0);
    for (let round = 0; round < 500; round++) {
      for (const [index, bytes] of held.entries()) {
        if (bytes >= budget.share(32 * MiB)) continue;
        held[index]! += 64 * 1024;
        budget.hold(64 * 1024);
      }
    }
    assert.ok(budget.heldBytes < budget.limitBytes, `${sessions}: ${budget.heldBytes}`);
    assert.ok(Math.max(...held) - Math.min(...held) <= MiB, "fairly");
    assert.equal(budget.evictions, 0);
  }
});

test("a share is never below a minimum, nor above what is asked", () => {
  const { budget } = budgetOf(8 * MiB);
  assert.equal(budget.share(MiB), MiB);
  budget.hold(9 * MiB);
  assert.equal(budget.share(32 * MiB), SESSION_SHARE_MIN_BYTES);
  assert.equal(new MemoryBudget().share(32 * MiB), 32 * MiB);
});
