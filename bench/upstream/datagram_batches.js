// Deno: `deno run -A --unstable-net datagram_batches.js`. What a datagram of 1,200 bytes to a port of this machine costs to send by the
// system's calls for several at once, `sendmmsg` and `sendmsg` with UDP_SEGMENT, on a socket of its own by native code. To be compared
// with datagrams.js.
import process from "node:process";

const WINDOW_MS = 1_500;
const COUNT = 32;
const BYTES = 1_200;
const DONT_WAIT = 0x40;
const [AF_INET, SOCK_DGRAM, SOL_UDP, UDP_SEGMENT] = [2, 2, 17, 103];
/** Of Linux on 64 bits: `sockaddr_in`, `msghdr`, and `mmsghdr`, which begins with one. */
const [NAME_BYTES, MESSAGE_BYTES, ENTRY_BYTES] = [16, 56, 64];

const libc = Deno.dlopen("libc.so.6", {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  sendmsg: { parameters: ["i32", "buffer", "i32"], result: "isize" },
  sendmmsg: { parameters: ["i32", "buffer", "u32", "i32"], result: "i32" },
}).symbols;

const { port } = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: 0 }).addr;
const name = new Uint8Array(NAME_BYTES);
name.set([AF_INET, 0, port >> 8, port & 255, 127, 0, 0, 1]);
const data = new Uint8Array(COUNT * BYTES);
const parts = new BigUint64Array(2 * COUNT);
const entries = new Uint8Array(COUNT * ENTRY_BYTES);
for (let i = 0; i < COUNT; i++) {
  parts.set([BigInt(addressOf(data)) + BigInt(i * BYTES), BigInt(BYTES)], 2 * i);
  describeMessage(entries.subarray(i * ENTRY_BYTES), BigInt(addressOf(parts)) + BigInt(16 * i));
}
const whole = new BigUint64Array([BigInt(addressOf(data)), BigInt(data.length)]);
const message = new Uint8Array(MESSAGE_BYTES);
describeMessage(message, BigInt(addressOf(whole)));

const socket = libc.socket(AF_INET, SOCK_DGRAM, 0);
measure("sendmmsg", () => libc.sendmmsg(socket, entries, COUNT, DONT_WAIT));
libc.setsockopt(socket, SOL_UDP, UDP_SEGMENT, new Int32Array([BYTES]), 4);
measure("sendmsg with UDP_SEGMENT", () => Number(libc.sendmsg(socket, message, DONT_WAIT)) / BYTES);
Deno.exit();

function addressOf(bytes) {
  return Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes));
}

function describeMessage(into, partAddress) {
  const view = new DataView(into.buffer, into.byteOffset);
  view.setBigUint64(0, BigInt(addressOf(name)), true);
  view.setUint32(8, NAME_BYTES, true);
  view.setBigUint64(16, partAddress, true);
  view.setBigUint64(24, 1n, true);
}

function measure(how, send) {
  const cpu = () => process.cpuUsage().user + process.cpuUsage().system;
  const [began, beganMs] = [cpu(), performance.now()];
  let sent = 0;
  while (performance.now() - beganMs < WINDOW_MS) sent += Math.max(0, send());
  const perSecond = Math.round(sent / WINDOW_MS);
  console.log(
    `${how}: ${perSecond} thousand datagrams a second, ${((cpu() - began) / sent).toFixed(2)} µs each`,
  );
}
