// A device without TLS and without a name, reached by a public TCP port of the edge.
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { createAgent, createEdge, createToken, currentRuntime } from "../mod.ts";
import { FernetRing, generateFernetKey, type PublicAddress, tcpConnector } from "../mod.ts";

// The device speaks first, as SSH does.
const device = createServer((socket) => socket.end("hello from the device"));
device.listen(0, "127.0.0.1");
await once(device, "listening");

const runtime = await currentRuntime();
const ring = new FernetRing([generateFernetKey()]);
const edge = createEdge({
  runtime,
  ring,
  publish: { ports: { first: 20_000, last: 20_999 }, host: "127.0.0.1" },
});
const { address } = await edge.listen({ host: "127.0.0.1", port: 0 });

const target = { runtime, host: "127.0.0.1", port: (device.address() as AddressInfo).port };
const opened = Promise.withResolvers<PublicAddress>();
const agent = createAgent({
  runtime,
  grants() {
    const subject = { hostname: "device.example.org", nowMs: Date.now(), ttlSeconds: 3600 };
    const { token, claims } = createToken(ring, { ...subject, extra: { publish: ["tcp"] } });
    return Promise.resolve({ ...claims, token, edge: address });
  },
  connector: tcpConnector(target),
  publish: [{ connector: tcpConnector({ ...target, plain: true }), opened: opened.resolve }],
});
const running = agent.run();

const visitor = connect(await opened.promise);
const [greeting] = await once(visitor, "data");
console.log(String(greeting));

visitor.destroy();
await agent.close(0);
await running;
await edge.close(0);
device.close();
