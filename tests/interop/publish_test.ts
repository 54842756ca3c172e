/** Reference edge, our agent with a public port: it isn't had there, and nothing else suffers. */
import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { it } from "node:test";
import { createAgent } from "../../src/agent/agent.ts";
import { tcpConnector } from "../../src/agent/connector.ts";
import { FernetRing } from "../../src/crypto/fernet.ts";
import { createToken } from "../../src/protocol/token/token.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { agentMembers, LIMIT_NAMES } from "../../src/wire/token/agent_claim.ts";
import { PUBLISH_MEMBER } from "../../src/wire/token/claims.ts";
import { hangUp, openStream, PlainEndpoint } from "../support/plain_peer.ts";
import { fernetKey } from "../support/tokens.ts";
import { type LogLine, recordingLogger } from "../support/tunnel.ts";
import { startReferenceServer } from "./reference.ts";
import { skipInterop } from "./reference_env.ts";

const timeout = 90_000;
/** Everything that a session master says of an agent; it would keep every visitor out. */
const POLICY = {
  id: "agent_0",
  tenant: "default",
  generation: 1,
  limits: Object.fromEntries(LIMIT_NAMES.map((name) => [name, 1])),
  month: { month: "2026-11", bytes: 2 },
  agentNetworks: ["192.0.2.0/24"],
  visitorNetworks: ["192.0.2.0/24"],
};

it(
  "the reference edge takes a token with public ports and an agent's limits, and knows nothing of either",
  { skip: await skipInterop(), timeout },
  async () => {
    const key = fernetKey();
    const runtime = await currentRuntime();
    const edge = await startReferenceServer({ fernetKeys: [key], hosts: ["127.0.0.1"] });
    const endpoint = await PlainEndpoint.start();
    const lines: LogLine[] = [];
    const to = { host: "127.0.0.1", port: endpoint.port };
    const agent = createAgent({
      runtime,
      log: recordingLogger(lines),
      grants: () => {
        const { token, claims } = createToken(new FernetRing([key]), {
          hostname: "publish.test",
          ttlSeconds: 3600,
          nowMs: Date.now(),
          extra: { [PUBLISH_MEMBER]: ["tcp"], ...agentMembers(POLICY) },
        });
        return Promise.resolve({ token, ...claims, edge: { host: "127.0.0.1", port: edge.agentPort } });
      },
      connector: tcpConnector({ runtime, ...to }),
      publish: [{ connector: tcpConnector({ runtime, ...to, plain: true }) }],
    });
    const running = agent.run();
    try {
      await edge.served("publish.test");
      const session = agent.session;
      const opened = await openStream(
        { host: "127.0.0.1", port: edge.visitorPort, serverName: "publish.test" },
        endpoint,
      );
      const found = () => lines.find(({ fields }) => fields.reason === "not_supported");
      while (found() === undefined) await delay(50);
      assert.match(
        found()!.message,
        /^Cannot publish tcp: the edge offers none, or doesn't support/,
      );
      assert.deepEqual(agent.published, [undefined]);
      assert.equal(agent.session, session, "the session stands");
      await hangUp(opened);
    } finally {
      await agent.close(0);
      await running;
      await Promise.all([edge.stop(), endpoint.stop()]);
    }
  },
);
