// Both: `strace -fc -e trace=sendto,writev,sendmsg bun write_two.js`, and the same with `deno run -A`. A thousand headers of 32 bytes,
// each with a payload of 64 KiB behind it, written as two calls in one turn: the system calls say whether they went together.
import process from "node:process";

const FRAMES = 1_000;
const header = new Uint8Array(32);
const payload = new Uint8Array(64 * 1024);

if ("bun" in process.versions) {
  let received = 0;
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(_conn, chunk) {
        received += chunk.length;
        if (received === FRAMES * (header.length + payload.length)) process.exit(0);
      },
    },
  });
  let part = 0;
  let sent = 0;
  const send = (conn) => {
    while (part < 2 * FRAMES) {
      const bytes = part % 2 === 0 ? header : payload;
      const count = conn.write(bytes.subarray(sent));
      sent += count;
      if (sent < bytes.length) return;
      sent = 0;
      part++;
    }
  };
  Bun.connect({ hostname: "127.0.0.1", port: listener.port, socket: { open: send, drain: send, data() {} } });
} else {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const writer = await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
  const reader = await listener.accept();
  const all = async (bytes) => {
    for (let sent = 0; sent < bytes.length;) sent += await writer.write(bytes.subarray(sent));
  };
  (async () => {
    for (let i = 0; i < FRAMES; i++) {
      await all(header);
      await all(payload);
    }
  })();
  const buffer = new Uint8Array(256 * 1024);
  for (let received = 0; received < FRAMES * (header.length + payload.length);) {
    received += await reader.read(buffer);
  }
  Deno.exit(0);
}
