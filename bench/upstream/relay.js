// Both: `bun relay.js PORT TO_PORT`, `deno run -A relay.js PORT TO_PORT`. Passes TCP connections on by the runtime's own sockets
// and does nothing else. Two of them in a row do what a tunnel's two ends do, so they show the most that a tunnel on the
// runtime can reach (peers relay-bun and relay-deno of the bench).
import process from "node:process";

const HOST = "127.0.0.1";
const READ_BYTES = 64 * 1024;
const [port, toPort] = process.argv.slice(2).map(Number);

if ("bun" in process.versions) relayOnBun();
else relayOnDeno();
process.stdin.on("end", () => process.exit()).resume();

function relayOnBun() {
  const socket = {
    async open(one) {
      if (one.data !== undefined) return; // dialled below
      one.pause();
      const other = await Bun.connect({ hostname: HOST, port: toPort, socket, data: { other: one } });
      one.data = { other };
      one.resume();
    },
    data(one, chunk) {
      const { other } = one.data;
      const sent = Math.max(0, other.write(chunk));
      if (sent < chunk.length) {
        one.pause();
        other.data.rest = chunk.subarray(sent);
      } else if (chunk.length >= 8192) chunk.buffer.transfer(0); // see fresh_buffers.js
    },
    drain(one) {
      const { rest, other } = one.data ?? {};
      if (rest === undefined) return;
      const sent = Math.max(0, one.write(rest));
      one.data.rest = sent < rest.length ? rest.subarray(sent) : undefined;
      if (sent === rest.length) other.resume();
    },
    close: (one) => void one.data?.other.end(),
  };
  Bun.listen({ hostname: HOST, port, socket });
  console.log(JSON.stringify({ event: "ready" }));
}

async function relayOnDeno() {
  const listener = Deno.listen({ hostname: HOST, port });
  console.log(JSON.stringify({ event: "ready" }));
  for await (const one of listener) void join(one);

  async function join(one) {
    const other = await Deno.connect({ hostname: HOST, port: toPort });
    for (const conn of [one, other]) conn.setNoDelay(true);
    await Promise.all([pass(one, other), pass(other, one)]).catch(() => {});
    for (const conn of [one, other]) {
      try {
        conn.close();
      } catch {
        // It was closed by the runtime.
      }
    }
  }

  async function pass(from, to) {
    const buffer = new Uint8Array(READ_BYTES);
    for (let count; (count = await from.read(buffer)) !== null;) {
      for (let at = 0; at < count;) at += await to.write(buffer.subarray(at, count));
    }
    await to.closeWrite();
  }
}
