// An agent whose connector is a function: visitors' TLS ends in this process, and no TCP port is open for it.
import { once } from "node:events";
import { Duplex } from "node:stream";
import { connect, TLSSocket } from "node:tls";
import { generate } from "selfsigned";
import {
  createAgent,
  createEdge,
  createToken,
  currentRuntime,
  FernetRing,
  generateFernetKey,
  type SessionStream,
} from "../mod.ts";

const hostname = "device.example.org";
const { private: key, cert } = await generate([{ name: "commonName", value: hostname }], {
  extensions: [
    { name: "basicConstraints", cA: true },
    { name: "subjectAltName", altNames: [{ type: 2, value: hostname }] },
  ],
});

/** Answers one line to each visitor, over TLS. */
function connector(stream: SessionStream): void {
  const tls = new TLSSocket(toDuplex(stream), { isServer: true, key, cert });
  tls.on("error", () => stream.abort());
  tls.once("data", (line) => tls.end(`${stream.caller.address} said ${line}`));
}

/** A stream of Sallyport's as Node's: bytes both ways, and back-pressure both ways. */
function toDuplex(stream: SessionStream): Duplex {
  let drained = () => {};
  const duplex = new Duplex({
    read: () => stream.resume(),
    write(chunk, _encoding, done) {
      if (stream.write(chunk)) done();
      else drained = done;
    },
    final(done) {
      stream.closeWrite();
      done();
    },
    destroy(error, done) {
      stream.release();
      done(error);
    },
  });
  stream.attach({
    // The chunk is only valid during the call, so it is copied.
    data: (chunk) => duplex.push(chunk.slice()) || stream.pause(),
    end: () => duplex.push(null),
    drain: () => drained(),
    close: (error) => duplex.destroy(error),
  });
  return duplex;
}

// An edge to connect to, and a visitor.
const runtime = await currentRuntime();
const ring = new FernetRing([generateFernetKey()]);
const edge = createEdge({ runtime, ring });
const { address } = await edge.listen({ host: "127.0.0.1", port: 0 });
const connected = Promise.withResolvers<void>();
const agent = createAgent({
  runtime,
  grants() {
    const { token, claims } = createToken(ring, { hostname, nowMs: Date.now(), ttlSeconds: 3600 });
    return Promise.resolve({ ...claims, token, edge: address });
  },
  connector,
  connected: () => connected.resolve(),
});
const running = agent.run();
await connected.promise;

const visitor = connect({ ...address, servername: hostname, ca: cert });
visitor.write("hello");
const [answer] = await once(visitor, "data");
console.log(String(answer));

visitor.destroy();
await agent.close(0);
await running;
await edge.close(0);
