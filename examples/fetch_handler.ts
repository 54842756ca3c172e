// A fetch handler (Hono's app.fetch, or any function) on the internet in ten lines: TLS ends in this process. Edge and
// session master run beside it here. With a public name, it gets a certificate from an authority by itself.
import { request } from "node:https";
import {
  createEdge,
  createMasterApp,
  FernetRing,
  generateFernetKey,
  serve,
  staticCredentials,
} from "../mod.ts";
import { currentRuntime, MemoryCertificateStore } from "../mod.ts";

const runtime = await currentRuntime();
const ring = new FernetRing([generateFernetKey()]);
const edge = createEdge({ runtime, ring });
const { address } = await edge.listen({ host: "127.0.0.1", port: 0 });
const master = createMasterApp({
  ring,
  credentials: staticCredentials([{ id: "device", key: "key-of-this-device", names: ["home.localhost"] }]),
  edgeAddress: address,
  clock: runtime.clock,
});
const api = await runtime.serveHttp({ host: "127.0.0.1", port: 0, fetch: (asked) => master.fetch(asked) });

// The ten lines.
const served = await serve((asked, visitor) => {
  const { host, pathname } = new URL(asked.url);
  return new Response(`${visitor.address} asked ${host.split(":")[0]} for ${pathname}`);
}, {
  master: `http://127.0.0.1:${api.address.port}`,
  credential: "key-of-this-device",
  hostname: "home.localhost",
  store: new MemoryCertificateStore(),
});
await served.connected;

// A visitor.
const answer = await new Promise<string>((resolve, reject) => {
  const visit = request({
    ...address,
    servername: "home.localhost",
    path: "/page",
    headers: { host: "home.localhost" },
    rejectUnauthorized: false,
    agent: false,
  });
  visit.on("response", (response) => {
    let text = "";
    response.on("data", (part) => text += String(part)).on("end", () => resolve(text));
  }).on("error", reject).end();
});
console.log(answer);

await served.close();
await edge.close(0);
await api.close(0);
