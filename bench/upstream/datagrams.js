// Both: `bun datagrams.js`, `deno run -A --unstable-net datagrams.js`. Datagrams of 1,200 bytes to a port of this machine: on Bun by 32
// in one call, on Deno one by one, since it has no other way.
import process from "node:process";

const WINDOW_MS = 2_000;
const data = new Uint8Array(1_200);
const cpu = () => process.cpuUsage().user + process.cpuUsage().system;
let sent = 0;
let over = false;
const began = cpu();
setTimeout(() => {
  over = true;
  const perDatagram = ((cpu() - began) / sent).toFixed(2);
  console.log(`${Math.round(sent / WINDOW_MS)} thousand datagrams a second, ${perDatagram} µs each`);
  process.exit(0);
}, WINDOW_MS);

if ("bun" in process.versions) {
  const sink = await Bun.udpSocket({ hostname: "127.0.0.1", socket: { data() {} } });
  const socket = await Bun.udpSocket({ hostname: "127.0.0.1" });
  const batch = Array.from({ length: 32 }, () => [data, sink.port, "127.0.0.1"]).flat();
  const go = () => {
    for (let i = 0; i < 8; i++) sent += socket.sendMany(batch);
    if (!over) setImmediate(go);
  };
  go();
} else {
  const sink = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: 0 });
  const socket = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: 0 });
  while (!over) {
    await Promise.all(Array.from({ length: 32 }, () => socket.send(data, sink.addr)));
    sent += 32;
  }
}
