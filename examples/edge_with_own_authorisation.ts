// An edge that admits only the agents of paying customers: a token must be valid, and then a hook decides.
import {
  type AgentRequest,
  createAgent,
  createEdge,
  createToken,
  currentRuntime,
  FernetRing,
  generateFernetKey,
  SallyportError,
} from "../mod.ts";

const runtime = await currentRuntime();
const ring = new FernetRing([generateFernetKey()]);
const paying = new Set(["alice.example.org"]);
const asked = new Map<string, () => void>();

/** May be async, to ask a database. The code that it throws with is what logs and metrics count by. */
function authorize({ hostname, remote }: AgentRequest): void {
  asked.get(hostname)?.();
  console.log(`${hostname} comes from ${remote.host}: ${paying.has(hostname) ? "welcome" : "refused"}`);
  if (paying.has(hostname)) return;
  throw new SallyportError("unauthorized", `Cannot let in ${hostname}: it has no contract`, { side: "peer" });
}

const edge = createEdge({ runtime, ring, authorize });
const { address } = await edge.listen({ host: "127.0.0.1", port: 0 });

// The agents make their own tokens here; normally masterGrants() requests them from a session master.
for (const hostname of ["alice.example.org", "bob.example.org"]) {
  const agent = createAgent({
    runtime,
    grants() {
      const { token, claims } = createToken(ring, { hostname, nowMs: Date.now(), ttlSeconds: 3600 });
      return Promise.resolve({ ...claims, token, edge: address });
    },
    connector: (stream) => stream.release(),
  });
  const running = agent.run();
  await new Promise<void>((resolve) => asked.set(hostname, resolve));
  await agent.close(0);
  await running;
}

await edge.close(0);
const metrics = await edge.metrics.render();
console.log(metrics.split("\n").find((line) => line.includes('reason="unauthorized"')));
