// `bun half_open.js`, `node half_open.js`, `deno run -A half_open.js`. What the peer's FIN costs a server that still
// has something to say: it answers a byte to a byte, then, a turn after the FIN, one more. The same with a peer that
// sends "end" in place of a FIN shows the difference.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import process from "node:process";

const ROUNDS = 4_000;
const isBun = "bun" in process.versions;
const END = 101;

if (process.argv[2] === "answer") isBun ? answerOnBun() : answer();
else {
  const program = "deno" in process.versions
    ? ["run", "-A", process.argv[1], "answer"]
    : [process.argv[1], "answer"];
  const child = spawn(process.execPath, program, { stdio: ["ignore", "pipe", "inherit"] });
  const [port] = await new Promise((resolve) => child.stdout.once("data", (text) => resolve([Number(text)])));
  for (let i = 0; i < ROUNDS; i++) await visit(port, i % 2 === 0);
  const costs = { FIN: [], '"end"': [] };
  for (let block = 0; block < 8; block++) {
    for (const how of Object.keys(costs)) {
      const before = cpuSeconds(child.pid);
      for (let i = 0; i < ROUNDS; i++) await visit(port, how === "FIN");
      costs[how].push((cpuSeconds(child.pid) - before) * 1e6 / ROUNDS);
    }
  }
  for (const [how, all] of Object.entries(costs)) {
    const median = all.sort((a, b) => a - b)[all.length >> 1];
    console.log(`${how}: ${median.toFixed(0)} µs of processor time a connection`);
  }
  child.kill();
  process.exit(0);
}

/** One connection: a byte, its answer, the end, the last byte, and the server's FIN. */
function visit(port, byFin) {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    socket.setNoDelay(true);
    socket.write("b");
    let received = 0;
    socket.on("data", () => {
      if (++received > 1) return;
      if (byFin) socket.end();
      else socket.write(Uint8Array.of(END));
    });
    socket.on("end", () => socket.destroy());
    socket.on("close", resolve);
  });
}

function answerOnBun() {
  const last = (conn) =>
    setTimeout(() => {
      conn.write("l");
      conn.end();
    }, 1);
  const socket = {
    data: (conn, chunk) => void (chunk[0] === END ? last(conn) : conn.write("a")),
    end: last,
  };
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, allowHalfOpen: true, socket });
  console.log(listener.port);
}

function answer() {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    const last = () => setTimeout(() => socket.end("l"), 1);
    socket.on("data", (chunk) => void (chunk[0] === END ? last() : socket.write("a")));
    socket.on("end", last);
    socket.on("error", () => {});
  });
  server.listen(0, "127.0.0.1", () => console.log(server.address().port));
}

function cpuSeconds(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
