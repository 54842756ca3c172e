// Both: `bun silent_peer.js`, `deno run -A silent_peer.js`. A server ends its direction before it has sent anything and goes on reading;
// how much of what a client of node:net writes does it get?
import { connect, createServer } from "node:net";
import process from "node:process";

const BYTES = 16 * 1024 * 1024;
let received = 0;
const server = createServer({ allowHalfOpen: true }, (socket) => {
  socket.end();
  socket.on("data", (chunk) => received += chunk.length);
  socket.on("error", () => {});
  socket.on("end", () => report("the server saw the end"));
});
server.listen(0, "127.0.0.1", () => {
  const client = connect({ port: server.address().port, host: "127.0.0.1", allowHalfOpen: true });
  client.on("error", (error) => report(`the client failed: ${error.code}`));
  client.resume();
  client.end(new Uint8Array(BYTES));
});

function report(how) {
  console.log(`${how} after ${received} of ${BYTES} bytes`);
  process.exit(0);
}
