// Both: `bun send_buffer.js`, `deno run -A send_buffer.js`. How much a connection takes whose peer reads nothing: all of it waits in
// kernel buffers, in front of whatever is written next. Neither runtime can set SO_SNDBUF or TCP_NOTSENT_LOWAT.
import process from "node:process";

const bytes = new Uint8Array(64 * 1024);
const QUIET_MS = 500;
let taken = 0;
let last = -1;

if ("bun" in process.versions) {
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: { open: (conn) => conn.pause(), data() {} },
  });
  const send = (conn) => {
    for (;;) {
      const count = conn.write(bytes);
      taken += Math.max(0, count);
      if (count < bytes.length) return;
    }
  };
  Bun.connect({ hostname: "127.0.0.1", port: listener.port, socket: { open: send, drain: send, data() {} } });
} else {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const writer = await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
  await listener.accept();
  (async () => {
    for (;;) taken += await writer.write(bytes);
  })();
}
setInterval(() => {
  if (taken === last) {
    console.log(`${(taken / 1e6).toFixed(1)} MB wait in the kernel`);
    process.exit(0);
  }
  last = taken;
}, QUIET_MS);
