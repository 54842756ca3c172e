/** Grants ahead of time: a session comes back without the session master, and no grant serves twice. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Grant } from "../../src/transport/grant.ts";
import { GRANTS_KEPT, GrantStock } from "../../src/agent/grant_stock.ts";
import { SallyportError } from "../../src/errors.ts";
import { createMemoryNetwork } from "../../src/runtime/memory/memory.ts";

const LIFE_S = 3_600;

function stockWith() {
  const network = createMemoryNetwork();
  const { clock } = network;
  const state = { away: false, asked: 0 };
  const stock = new GrantStock(() => {
    state.asked++;
    if (state.away) {
      return Promise.reject(
        new SallyportError("master_unreachable", "away", { side: "network", retryable: true }),
      );
    }
    return Promise.resolve({ token: `token-${state.asked}`, valid: clock.wallMs() / 1000 + LIFE_S } as Grant);
  }, { clock, random: () => 0.5 });
  return { network, state, stock };
}

describe("GrantStock", () => {
  it("serves sessions while the master is away, each with a grant of its own, the oldest first", async () => {
    const { network, state, stock } = stockWith();
    assert.equal((await stock.take()).token, "token-1");
    await network.advance(200_000);
    assert.equal(state.asked, 1 + GRANTS_KEPT);
    state.away = true;
    const tokens = [];
    for (let count = 0; count < GRANTS_KEPT; count++) tokens.push((await stock.take()).token);
    assert.deepEqual(tokens, ["token-2", "token-3", "token-4"]);
    await assert.rejects(stock.take(), { code: "master_unreachable" });
    stock.close();
  });

  it("prefers a fresh grant to an old one, and an old one to none", async () => {
    const { network, state, stock } = stockWith();
    await stock.take();
    await network.advance(200_000);
    state.away = true;
    // More than half of their life is over: renewed with them, a session would be renewed again at once.
    await network.advance(LIFE_S * 600);
    const asked = state.asked;
    const { token } = await stock.take();
    assert.ok(state.asked > asked && token.startsWith("token-"));
    stock.close();
  });

  it("forgets what it has when an edge has refused a grant", async () => {
    const { network, state, stock } = stockWith();
    await stock.take();
    await network.advance(200_000);
    stock.discard();
    const asked = state.asked;
    assert.equal((await stock.take()).token, `token-${asked + 1}`);
    stock.close();
  });
});
