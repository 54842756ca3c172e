import assert from "node:assert/strict";
import { transportsOf } from "../support/transports.ts";
import { describe, it } from "node:test";
import { createAgent } from "../../src/agent/agent.ts";
import { masterGrants } from "../../src/agent/grant.ts";
import type { Grant } from "../../src/transport/grant.ts";
import { loadSodium, makeKeyPair } from "../../src/crypto/sodium.ts";
import type { Runtime } from "../../src/runtime/port.ts";
import { AGENT_HOST, EDGE_HOST, EDGE_PORT, TestEdge } from "../support/tunnel.ts";
import { FernetRing, generateFernetKey } from "../../src/crypto/fernet.ts";
import { createToken } from "../../src/protocol/token/token.ts";

const TOKEN = createToken(new FernetRing([generateFernetKey()]), {
  hostname: "a.test",
  nowMs: Date.UTC(2026, 0, 1),
  ttlSeconds: 3600,
}).token;

const YEAR_MS = 365 * 86_400_000;

describe("createAgent: an agent whose clock is wrong", () => {
  it("gets in by the sealed transport with the master's time, a year behind or ahead", async () => {
    const sodium = await loadSodium("wasm");
    const keys = makeKeyPair(sodium);
    for (const offMs of [-YEAR_MS, YEAR_MS]) {
      for (const isTold of [true, false]) {
        const test = await TestEdge.start({ transports: transportsOf({ sealed: { sodium, keys } }) });
        const inner = test.runtime(AGENT_HOST);
        const runtime: Runtime = {
          ...inner,
          clock: { ...inner.clock, wallMs: () => inner.clock.wallMs() + offMs },
        };
        const { token, claims } = test.token();
        const grant: Grant = {
          ...claims,
          token,
          edge: { host: EDGE_HOST, port: EDGE_PORT, publicKey: keys.publicKey },
          ...isTold ? { clockOffsetMs: -offMs } : {},
        };
        const agent = createAgent({
          runtime,
          transport: "sealed",
          libsodium: "wasm",
          grants: () => Promise.resolve(grant),
          connector: () => {},
        });
        void agent.run();
        for (let i = 0; i < 200 && !test.edge.serves("a.test"); i++) await test.advance(1);
        // A clock that is behind is corrected by the token's own date too.
        assert.equal(test.edge.serves("a.test"), isTold || offMs < 0, `${offMs} ${isTold}`);
        await test.network.settle(agent.close(0));
      }
    }
  });

  it("learns the time from the Date of the master's answer", async () => {
    const body = {
      ...{ token: TOKEN, hostname: "a.test", aes_key: "00".repeat(32), aes_iv: "00".repeat(16) },
      ...{ cipher: "aes-gcm", protocol_version: 2, valid: 2e9, edge: { host: "e.test", port: 1 } },
    };
    const offset = async (date: string | undefined) => {
      const grants = masterGrants({
        ...{ master: "https://m.test", credential: "k".repeat(20), hostname: "a.test" },
        wallMs: () => Date.UTC(2026, 0, 1),
        fetch: () =>
          Promise.resolve(
            new Response(JSON.stringify(body), { status: 201, headers: date === undefined ? {} : { date } }),
          ),
      });
      return (await grants()).clockOffsetMs;
    };
    assert.equal(await offset("Fri, 02 Jan 2026 00:00:00 GMT"), 86_400_000);
    assert.equal(await offset("Wed, 31 Dec 2025 23:00:00 GMT"), -3_600_000);
    for (const nothing of ["Thu, 01 Jan 2026 00:00:03 GMT", "yesterday", undefined]) {
      assert.equal(await offset(nothing), undefined, String(nothing));
    }
  });
});
