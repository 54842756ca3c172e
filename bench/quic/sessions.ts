/**
 * What idle sessions hold at the edge, over QUIC and over SniTun's TCP:
 *
 *     sessions.ts [quic|snitun] [SESSIONS]
 *
 * The agents are in a process of their own, on the same runtime. Memory is the difference between a tenth of the sessions
 * and all of them, so that what a runtime takes at first doesn't count.
 *
 * @module
 */
import { spawn } from "node:child_process";
import process from "node:process";
import { currentRuntime } from "../../src/runtime/mod.ts";
import type { SessionHandler } from "../../src/transport/port.ts";
import { dial, listen } from "./ends.ts";

const [transport = "quic", count = "500", port = "45200", told] = process.argv.slice(2);
const all = Number(count);
const runtime = await currentRuntime();

const idle: SessionHandler = {
  stream() {},
  streamClosed() {},
  streamRefused() {},
  ended: () => process.exit(1),
};

if (told === undefined) {
  let sessions = 0;
  let first = 0;
  let started = 0;
  const ready = await listen(runtime, transport, Number(port), () => {
    if (++sessions === 1) started = runtime.clock.nowMs();
    if (sessions === all / 10) first = process.memoryUsage().rss;
    if (sessions === all) {
      const seconds = (runtime.clock.nowMs() - started) / 1000;
      // What the handshakes left is given time to be collected.
      setTimeout(() => {
        const each = (process.memoryUsage().rss - first) / (all * 0.9) / 1024;
        const kb = Number(each.toFixed(1));
        const sessionsPerSecond = Math.round(all / seconds);
        console.log(
          JSON.stringify({ runtime: runtime.name, transport, sessions: all, kb, sessionsPerSecond }),
        );
        agents.kill();
        process.exit(0);
      }, 5_000);
    }
    return idle;
  });
  const flags = runtime.name === "deno" ? ["run", "-A", "--no-check"] : [];
  const agents = spawn(process.execPath, [...flags, process.argv[1]!, transport, count, port, ready], {
    stdio: ["ignore", "inherit", "ignore"],
  });
} else {
  // Ten at a time: what is measured is what stays, not a storm.
  for (let i = 0; i < all; i += 10) {
    await Promise.all(
      Array.from({ length: 10 }, () => dial(runtime, transport, Number(port), told, () => idle)),
    );
  }
}
