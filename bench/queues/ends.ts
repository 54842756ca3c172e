/**
 * An edge or an agent whose connections are traced, as a child of main.ts. It says "ready", and its trace once its standard
 * input ends.
 *
 *     ends.ts edge  VISITOR_PORT AGENT_PORT
 *     ends.ts agent AGENT_PORT BULK_PORT ECHO_PORT
 *
 * @module
 */
import process from "node:process";
import { serviceDefaults } from "../../src/agent/services/service.ts";
import { ServiceTable } from "../../src/agent/services/table.ts";
import { parseTarget } from "../../src/agent/services/target.ts";
import { FernetRing } from "../../src/crypto/fernet.ts";
import { createEdge } from "../../src/edge/edge.ts";
import { createToken } from "../../src/protocol/token/token.ts";
import { SendScratch } from "../../src/protocol/mux/snitun/sender.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { silentLogger } from "../../src/telemetry/log.ts";
import { dialSnitun } from "../../src/transport/snitun/dial.ts";
import { SERVER_NAME } from "../peers/peer.ts";
import { type Passed, traced } from "./trace.ts";

/** The name whose visitors are echoed. */
const ECHO_NAME = `echo.${SERVER_NAME}`;
const HOST = "127.0.0.1";
const RING = new FernetRing(["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="]);

const [role, ...ports] = process.argv.slice(2);
const [first = 0, second = 0, third = 0] = ports.map(Number);
const passed: Passed[] = [];
const plain = await currentRuntime();

if (role === "edge") {
  const runtime = traced(
    plain,
    passed,
    ({ local }) => `edge's ${local.port === second ? "session" : "visitor"}`,
  );
  const edge = createEdge({ runtime, ring: RING, log: silentLogger });
  await edge.listen({ host: HOST, port: first, accepts: "visitors" });
  await edge.listen({ host: HOST, port: second, accepts: "agents" });
} else {
  const runtime = traced(
    plain,
    passed,
    ({ remote }) => `agent's ${remote.port === first ? "session" : "endpoint"}`,
  );
  const services = new ServiceTable({ runtime, log: silentLogger });
  services.apply([
    serviceDefaults({ names: [SERVER_NAME], targets: [parseTarget(`${HOST}:${second}`)] }),
    serviceDefaults({ names: [ECHO_NAME], targets: [parseTarget(`${HOST}:${third}`)] }),
  ]);
  const { token, claims } = createToken(RING, {
    ...{ hostname: SERVER_NAME, aliases: [ECHO_NAME], ttlSeconds: 3600, nowMs: Date.now() },
    ...{ protocolVersion: 2 as const, cipher: "aes-cbc" as const },
  });
  await dialSnitun({
    ...{
      runtime,
      clock: runtime.clock,
      scratch: new SendScratch(runtime.memory),
      host: HOST,
      port: first,
      token,
    },
    ...claims,
    admitted: () => ({
      stream: (stream) => void services.connector(stream),
      streamClosed() {},
      streamRefused() {},
      ended: (error) => {
        console.error(error.message);
        process.exit(1);
      },
    }),
  });
}
console.log(JSON.stringify({ event: "ready" }));
process.stdin.on("end", () => {
  console.log(JSON.stringify({ event: "trace", passed }));
  process.exit();
}).resume();
