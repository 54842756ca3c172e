// Both: `bun ready_reads.js`, `deno run -A ready_reads.js`. An echo of 64 bytes by the runtime's own sockets, and what it costs the
// process that answers. A C program needs 5 µs of system calls for it here.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import process from "node:process";

const ROUNDS = 20_000;
const isBun = "bun" in process.versions;

if (process.argv[2] === "answer") isBun ? answerOnBun() : answerOnDeno();
else {
  const program = isBun ? [process.argv[1], "answer"] : ["run", "-A", process.argv[1], "answer"];
  const child = spawn(process.execPath, program, { stdio: ["ignore", "pipe", "inherit"] });
  const [port] = await new Promise((resolve) => child.stdout.once("data", (text) => resolve([Number(text)])));
  const socket = connect(port, "127.0.0.1");
  socket.setNoDelay(true);
  const message = new Uint8Array(64);
  let rounds = 0;
  let before = 0;
  socket.on("data", () => {
    if (++rounds === ROUNDS) before = cpuSeconds(child.pid);
    if (rounds === 2 * ROUNDS) {
      console.log(
        `${((cpuSeconds(child.pid) - before) * 1e6 / ROUNDS).toFixed(1)} µs of processor time an echo`,
      );
      child.kill();
      process.exit(0);
    }
    socket.write(message);
  });
  socket.write(message);
}

function answerOnBun() {
  const socket = { data: (conn, chunk) => void conn.write(chunk) };
  console.log(Bun.listen({ hostname: "127.0.0.1", port: 0, socket }).port);
}

async function answerOnDeno() {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  console.log(listener.addr.port);
  const conn = await listener.accept();
  conn.setNoDelay(true);
  const buffer = new Uint8Array(4096);
  for (let count; (count = await conn.read(buffer)) !== null;) await conn.write(buffer.subarray(0, count));
}

function cpuSeconds(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
