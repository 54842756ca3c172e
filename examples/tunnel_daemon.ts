// A daemon that knows its devices by a secret of each, and registers them where other nodes find them. The registry is
// in memory; connectRedisRegistry({ url, clock }) gives the same one in Redis.
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import {
  createAgent,
  createEdge,
  createMemoryRegistry,
  createRouter,
  createToken,
  createTunnelDaemon,
  createTunnelSource,
  currentRuntime,
  errorCode,
  FernetRing,
  generateFernetKey,
  secretAuthenticator,
  secretCredential,
  tcpProxy,
} from "../mod.ts";

const runtime = await currentRuntime();
const { clock } = runtime;
const ring = new FernetRing([generateFernetKey()]);
const registry = createMemoryRegistry({ clock });
const secrets = new Map([["kitchen", new Uint8Array(randomBytes(32))]]);
const happened = {
  authenticated: Promise.withResolvers<void>(),
  disconnected: Promise.withResolvers<void>(),
};
const refused = Promise.withResolvers<void>();

const daemon = createTunnelDaemon({
  clock,
  registry,
  node: "node-1",
  authenticators: [
    secretAuthenticator((name) => {
      const secret = secrets.get(name);
      return secret && { secret, attributes: new Map([["room", Buffer.from("ground floor")]]) };
    }),
  ],
  router: createRouter({ "/proxy-tcp": tcpProxy({ runtime, permits: ({ port }) => port === 22 }) }),
  event(event) {
    console.log(
      `${event.kind}: ${event.tunnel.name}${event.kind === "authenticated" ? ` by ${event.method}` : ""}`,
    );
    if (event.kind !== "connected") happened[event.kind].resolve();
  },
  refused(error) {
    console.log(errorCode(error));
    refused.resolve();
  },
});

// Where its tunnels come from: the agents of an edge, by whatever transport they came.
const source = createTunnelSource();
daemon.attach(source);
const edge = createEdge({
  runtime,
  ring,
  tunnels: {
    adopt(carrier) {
      source.carrier(carrier);
      return true;
    },
    router: () => undefined,
  },
});
const { address } = await edge.listen({ host: "127.0.0.1", port: 0 });

function device(name: string, secret: Uint8Array<ArrayBuffer>) {
  const agent = createAgent({
    runtime,
    grants() {
      const hostname = `${name}.example.org`;
      const { token, claims } = createToken(ring, { hostname, nowMs: Date.now(), ttlSeconds: 3600 });
      return Promise.resolve({ ...claims, token, edge: address });
    },
    connector: (visitor) => visitor.abort(),
    router: createRouter({}),
    credentials: [secretCredential(name, secret)],
  });
  const running = agent.run();
  return async () => {
    await agent.close(0);
    await running;
  };
}

async function show() {
  const found = await registry.byName("kitchen");
  const room = Buffer.from(found?.attributes.get("room") ?? []).toString();
  console.log(
    `registered: ${found === undefined ? "nobody" : `${found.name} at ${found.node}, room: ${room}`}`,
  );
}

const leave = device("kitchen", secrets.get("kitchen")!);
await happened.authenticated.promise;
await show();

const giveUp = device("garage", new Uint8Array(randomBytes(32)));
await refused.promise;
await giveUp();

await leave();
await happened.disconnected.promise;
await show();
await daemon.close(0);
await edge.close(0);
