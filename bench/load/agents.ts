/**
 * Agents with many names each, in one process. A child of the bench; its arguments are the edge's port, the endpoint's, the
 * number of agents and of names for each; the Fernet key comes from SNITUN_FERNET_KEY. Says "all" once all stand.
 *
 * @module
 */
import process from "node:process";
import { tcpConnector } from "../../src/agent/connector.ts";
import { SendScratch } from "../../src/protocol/mux/snitun/sender.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { dialSnitun } from "../../src/transport/snitun/dial.ts";
import { issueToken } from "../../tests/support/tokens.ts";
import { SERVER_NAME } from "../peers/peer.ts";

const [port = 0, endpointPort = 0, agents = 0, namesEach = 0] = process.argv.slice(2).map(Number);
const fernetKey = process.env.SNITUN_FERNET_KEY ?? "";
const runtime = await currentRuntime();
const connector = tcpConnector({ runtime, host: "127.0.0.1", port: endpointPort });
const scratch = new SendScratch();
const bytes = (hex: string): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.from(hex, "hex"));

for (let agent = 0; agent < agents; agent++) {
  const names = Array.from({ length: namesEach }, (_, i) => `n${agent * namesEach + i}.${SERVER_NAME}`);
  const token = issueToken(fernetKey, { hostname: names[0]!, alias: names.slice(1) });
  await dialSnitun({
    ...{ runtime, clock: runtime.clock, scratch, host: "127.0.0.1", port },
    ...{ token: token.token, aesKey: bytes(token.aesKey), aesIv: bytes(token.aesIv) },
    ...{ cipher: token.cipher, protocolVersion: token.protocolVersion as 0 | 1 | 2 },
    admitted: () => ({
      stream: (stream) => void connector(stream),
      streamClosed() {},
      streamRefused() {},
      ended: (error) => {
        console.error(error.message);
        process.exit(1);
      },
    }),
  });
}
console.log(JSON.stringify({ event: "all" }));
process.stdin.on("close", () => process.exit()).resume();
