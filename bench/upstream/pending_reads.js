// Deno: `deno run -A pending_reads.js`. What each read of a long-lived connection leaves to the old generation: `Deno.Conn` keeps
// pending reads in a Set, and a Set that is emptied gets a new table, to which the old one refers. A table that has become
// old thus keeps the later ones, with their promises, until the old generation is collected.
import v8 from "node:v8";
import { runInNewContext } from "node:vm";

const READS = 20_000;
const oldBytes = () =>
  v8.getHeapSpaceStatistics().find(({ space_name }) => space_name === "old_space").space_used_size;

const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
const near = await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
const far = await listener.accept();
const byte = new Uint8Array(1);
async function read() {
  await near.write(byte);
  await far.read(byte);
}

for (let i = 0; i < 2_000; i++) await read();
v8.setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc");
collect();
collect();
let promoted = 0;
let before = oldBytes();
for (let i = 0; i < READS; i++) {
  await read();
  if (i % 50 > 0) continue;
  const now = oldBytes();
  promoted += Math.max(0, now - before);
  before = now;
}
console.log(`${(promoted / READS).toFixed(0)} bytes a read moved to the old generation`);
Deno.exit();
