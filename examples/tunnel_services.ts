// Streams from either side: the edge asks a device for a web page and the device asks the edge for the time, in the
// session that carries the device's visitors.
import { Buffer } from "node:buffer";
import {
  type ByteStream,
  createAgent,
  createEdge,
  createRouter,
  createToken,
  currentRuntime,
  errorCode,
  FernetRing,
  generateFernetKey,
  httpService,
  type Tunnel,
} from "../mod.ts";

const hostname = "device.example.org";
const runtime = await currentRuntime();
const ring = new FernetRing([generateFernetKey()]);

/** Asks, and takes everything until the other side has ended. */
function exchange(stream: ByteStream, question: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const answer: Uint8Array[] = [];
    stream.attach({
      // The chunk is only valid during the call, so it is copied.
      data: (chunk) => void answer.push(chunk.slice()),
      end: () => stream.closeWrite(),
      drain() {},
      close: (error) =>
        error === undefined ? resolve(new TextDecoder().decode(Buffer.concat(answer))) : reject(error),
    });
    stream.write(new TextEncoder().encode(question));
  });
}

const opened = Promise.withResolvers<Tunnel>();
const connected = Promise.withResolvers<Tunnel>();

// What the edge offers to its agents: a router for each of them, by what its token says.
const edge = createEdge({
  runtime,
  ring,
  tunnels: {
    router: () =>
      createRouter({
        "/clock": () => (stream) => {
          stream.attach({ data() {}, end() {}, drain() {}, close() {} });
          stream.write(new TextEncoder().encode("12:00"));
          stream.closeWrite();
        },
      }),
    opened: opened.resolve,
  },
});
const { address } = await edge.listen({ host: "127.0.0.1", port: 0 });

// What the device offers to its edge: HTTP, answered by a function. `tcpProxy({ runtime })` would be another service.
const agent = createAgent({
  runtime,
  grants() {
    const { token, claims } = createToken(ring, { hostname, nowMs: Date.now(), ttlSeconds: 3600 });
    return Promise.resolve({ ...claims, token, edge: address });
  },
  connector: (visitor) => visitor.abort(),
  router: createRouter({
    "/http": httpService({
      clock: runtime.clock,
      fetch: (request) => new Response(`${request.method} ${new URL(request.url).pathname}: 21 °C`),
    }),
  }),
  connected: (_session, tunnel) => connected.resolve(tunnel!),
});
const running = agent.run();
const [toDevice, toEdge] = await Promise.all([opened.promise, connected.promise]);

const page = await exchange(await toDevice.open("/http"), "GET /status HTTP/1.1\r\nhost: device\r\n\r\n");
console.log(`the edge asks the device: ${/^GET .*/m.exec(page)?.[0]}`);

const time = await exchange(await toEdge.open("/clock"), "");
console.log(`the device asks the edge: what time is it? ${time}`);

// What nobody serves is refused; everything else goes on.
await toEdge.open("/coffee").catch((error) => console.log(errorCode(error)));

await agent.close(0);
await running;
await edge.close(0);
