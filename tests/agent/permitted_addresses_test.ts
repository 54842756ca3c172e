/** An agent dials no address of an edge's name that the grant doesn't permit, over any transport. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createAgent } from "../../src/agent/agent.ts";
import { FernetRing } from "../../src/crypto/fernet.ts";
import { SallyportError } from "../../src/errors.ts";
import { createToken } from "../../src/protocol/token/token.ts";
import { createMemoryNetwork } from "../../src/runtime/memory/memory.ts";
import type { AddressJudge, Runtime } from "../../src/runtime/port.ts";
import { AGENT_HOST, EDGE_PORT, FERNET_KEY } from "../support/tunnel.ts";
import { until } from "../support/until.ts";

const EDGE_NAME = "edge.test";
const ADDRESS = "10.0.0.1";
const KEY = new Uint8Array(32).fill(7);

describe("createAgent and an edge whose name has an address that isn't permitted", () => {
  for (const transport of ["snitun", "sealed", "curve", "quic"] as const) {
    it(transport, async () => {
      const network = createMemoryNetwork({ seed: 1 });
      const base = network.runtime(AGENT_HOST);
      const ring = new FernetRing([FERNET_KEY]);
      let sent = 0;
      const refused: (AddressJudge | undefined)[] = [];
      const runtime: Runtime = {
        ...base,
        resolve: () => Promise.resolve([ADDRESS]),
        dial: ({ permits }) => {
          refused.push(permits);
          return Promise.reject(new SallyportError("access_denied", "refused here", { side: "config" }));
        },
        bindDatagram: (options) => {
          sent++;
          return base.bindDatagram(options);
        },
        quic: async () => ({
          ...await base.quic(),
          dial: () => {
            sent++;
            return Promise.reject(new SallyportError("edge_unreachable", "dialled", { side: "network" }));
          },
        }),
      };
      const agent = createAgent({
        runtime,
        transport,
        grants: () => {
          const { token, claims } = createToken(ring, {
            hostname: "a.test",
            nowMs: network.clock.wallMs(),
            ttlSeconds: 3_600,
          });
          const pins = { publicKey: KEY, certificateFingerprint: KEY };
          const permits = (address: string) => address !== ADDRESS;
          return Promise.resolve({
            token,
            ...claims,
            edge: { host: EDGE_NAME, port: EDGE_PORT, ...pins, permits },
          });
        },
        connector: (stream) => stream.abort(),
      });
      const run = agent.run().catch(() => {});
      await network.advance(100);
      await until(async () => {
        await network.advance(0);
        return refused.length > 0 || agent.facts.lastFailure !== undefined;
      });
      const overTcp = transport === "snitun" || transport === "sealed";
      assert.equal(sent, 0, "nothing was dialled over UDP");
      if (overTcp) assert.equal(refused[0]?.(ADDRESS), false);
      else assert.match(agent.facts.lastFailure?.message ?? "", /isn't permitted/);
      await network.settle(agent.close(0));
      await run;
    });
  }
});
