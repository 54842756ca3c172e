import v8 from "node:v8";
import process from "node:process";
import { startTunnel } from "./visitors.ts";

const allocated = (): number =>
  (v8.getHeapStatistics() as unknown as { total_allocated_bytes: number }).total_allocated_bytes;
const tunnel = await startTunnel((process.argv[3] ?? "aes-cbc") as "aes-cbc");
const N = Number(process.argv[2] ?? 1000);
const cpu = () => {
  const u = process.cpuUsage();
  return u.user + u.system;
};
for (let i = 0; i < 3000; i++) await tunnel.visit();
for (let round = 0; round < 6; round++) {
  const before = { ...tunnel.asked }, a = allocated(), c = cpu(), t = performance.now();
  for (let i = 0; i < N; i++) await tunnel.visit();
  const b = allocated(), ms = performance.now() - t, us = cpu() - c;
  console.log(
    Object.entries(tunnel.asked).map(([k, v]) => `${k} ${((v - before[k as "writes"]) / N).toFixed(2)}`).join(
      "  ",
    ),
    "bytes",
    ((b - a) / N).toFixed(0),
    "µs",
    (ms * 1000 / N).toFixed(1),
    "cpu",
    (us / N).toFixed(1),
  );
}
const open = await tunnel.open();
for (const size of [64, 65536]) {
  const chunk = new Uint8Array(size);
  for (let i = 0; i < 3000; i++) await open.echo(chunk);
  for (let round = 0; round < 3; round++) {
    const before = { ...tunnel.asked }, a = allocated(), c = cpu();
    for (let i = 0; i < N; i++) await open.echo(chunk);
    const b = allocated(), us = cpu() - c;
    console.log(
      size,
      Object.entries(tunnel.asked).map(([k, v]) => `${k} ${((v - before[k as "writes"]) / N).toFixed(2)}`)
        .join("  "),
      "bytes",
      ((b - a) / N).toFixed(0),
      "cpu",
      (us / N).toFixed(1),
    );
  }
}
process.exit(0);
