/** The reference with itself: what fails here is wrong in the harness, not in Sallyport. */

import assert from "node:assert/strict";
import { it } from "node:test";
import { openStream, PlainEndpoint } from "../support/plain_peer.ts";
import { fernetKey, issueToken } from "../support/tokens.ts";
import { startReferenceClient, startReferenceServer } from "./reference.ts";
import { skipInterop } from "./reference_env.ts";
import { describeTunnel } from "./scenarios.ts";

const skip = await skipInterop();

describeTunnel("reference edge, reference agent", {
  startEdge: startReferenceServer,
  startAgent: startReferenceClient,
  skip,
});

it("the reference listens on two ports", { skip, timeout: 60_000 }, async () => {
  const key = fernetKey();
  const [edge, agent, endpoint] = await Promise.all([
    startReferenceServer({ fernetKeys: [key], ports: "two" }),
    startReferenceClient(),
    PlainEndpoint.start(),
  ]);
  try {
    assert.notEqual(edge.agentPort, edge.visitorPort);
    const token = issueToken(key, { hostname: "two-ports.test" });
    await agent.connect({
      edge: { host: "127.0.0.1", port: edge.agentPort },
      endpointPort: endpoint.port,
      token,
    });
    await edge.served(token.hostname);
    const { visitor, endpoint: far } = await openStream(
      { host: "127.0.0.1", port: edge.visitorPort, serverName: token.hostname },
      endpoint,
    );
    const [received, sent] = await Promise.all([far.receive(100_000), visitor.send(100_000, 1)]);
    assert.equal(received, sent);
  } finally {
    await Promise.all([agent.stop(), edge.stop(), endpoint.stop()]);
  }
});
