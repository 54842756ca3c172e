// A session master with a key for each customer, called without a server: app.request() takes what fetch() takes.
import {
  createMasterApp,
  currentRuntime,
  FernetRing,
  generateFernetKey,
  openToken,
  staticCredentials,
} from "../mod.ts";

const ring = new FernetRing([generateFernetKey()]);
const app = createMasterApp({
  ring,
  credentials: staticCredentials([
    { id: "alice", key: "alice-has-this-long-key", names: ["alice.example.org", "*.alice.example.org"] },
  ]),
  edgeAddress: { host: "edge.example.org", port: 8443 },
  clock: (await currentRuntime()).clock,
});

const ask = (body: object) =>
  app.request("/v1/tokens", {
    method: "POST",
    headers: { "authorization": "Bearer alice-has-this-long-key", "content-type": "application/json" },
    body: JSON.stringify(body),
  });

const issued = await ask({ hostname: "alice.example.org", alias: ["www.alice.example.org"] });
const { token, edge } = await issued.json();
const claims = openToken(ring, token, Date.now() / 1000);
console.log(
  `${issued.status}: ${[claims.hostname, ...claims.aliases].join(" and ")} at ${edge.host}:${edge.port}`,
);

const refused = await ask({ hostname: "bob.example.org" });
const problem = await refused.json();
console.log(`${refused.status}: ${problem.detail}`);
