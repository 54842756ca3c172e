// Bun: `bun fresh_buffers.js`. A socket that takes bulk data, first as it is, then with each chunk's buffer detached once it has
// been looked at. Bun makes a fresh buffer for each chunk; the collector frees them late, and their pages come from the system
// again: faults a MB tell.
import { readFileSync } from "node:fs";
import process from "node:process";

if (process.argv[2] === "send") {
  const bytes = Buffer.alloc(256 * 1024);
  const send = (socket) => {
    while (socket.write(bytes) === bytes.length);
  };
  const port = Number(process.argv[3]);
  Bun.connect({ hostname: "127.0.0.1", port, socket: { open: send, drain: send, data() {} } });
} else {
  for (const detach of [false, true]) await measure(detach);
  process.exit(0);
}

async function measure(detach) {
  let received = 0;
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      binaryType: "uint8array",
      data(_socket, chunk) {
        received += chunk.length;
        if (detach) chunk.buffer.transfer(0);
      },
    },
  });
  const sender = Bun.spawn([process.execPath, import.meta.path, "send", String(listener.port)]);
  await Bun.sleep(500);
  const [faults, cpu, before] = [...usage(), received];
  await Bun.sleep(2_000);
  const [faultsAfter, cpuAfter] = usage();
  const megabytes = (received - before) / 1e6;
  const figures = [
    `${((faultsAfter - faults) / megabytes).toFixed(2)} page faults a MB`,
    `${((cpuAfter - cpu) * 1000 / megabytes).toFixed(2)} s a GB`,
  ];
  console.log(`${detach ? "detached" : "left to the collector"}: ${figures.join(", ")}`);
  sender.kill();
  listener.stop(true);
}

function usage() {
  const fields = readFileSync("/proc/self/stat", "utf8").split(") ")[1].split(" ");
  const { user, system } = process.cpuUsage();
  return [Number(fields[7]), (user + system) / 1e6];
}
