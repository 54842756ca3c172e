/**
 * Run as a process of its own, with a port and a count: opens connections one after the other and resets each at once.
 *
 * @module
 */
import { connect } from "node:net";
import process from "node:process";

const [port, count] = process.argv.slice(2).map(Number);
for (let i = 0; i < count!; i++) {
  await new Promise<void>((resolve, reject) => {
    const socket = connect(port!, "127.0.0.1", () => socket.resetAndDestroy());
    socket.on("error", reject);
    socket.on("close", () => resolve());
  });
}
