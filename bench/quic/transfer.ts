/**
 * The QUIC transport beside SniTun over TCP, one session in two processes:
 *
 *     transfer.ts edge  snitun|quic PORT MEGABYTES
 *     transfer.ts agent snitun|quic PORT MEGABYTES
 *
 * The edge sends so many bytes in one stream, then makes 200 exchanges of 100 kB at once, then 2,000 small ones by 50 at a
 * time. Each side prints a line of JSON with rates and processor seconds; run each on whichever runtime.
 *
 * @module
 */
import process from "node:process";
import { SallyportError } from "../../src/errors.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import type { Bytes } from "../../src/runtime/port.ts";
import type { Session, SessionHandler } from "../../src/transport/port.ts";
import { dial, listen } from "./ends.ts";

const [role, transport = "", portText, megabytes] = process.argv.slice(2);
const port = Number(portText);
const total = Number(megabytes) * 1e6;
const runtime = await currentRuntime();
const { clock } = runtime;

const cpuSeconds = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

/** Sends `bytes` and waits for the answer, a byte. */
function exchange(session: Session, bytes: number): Promise<void> {
  const stream = session.open({ address: "192.0.2.7" });
  const chunk: Bytes = new Uint8Array(64 * 1024);
  let left = bytes;
  const pump = () => {
    while (left > 0) {
      const part = left < chunk.length ? chunk.subarray(0, left) : chunk;
      left -= part.length;
      if (!stream.write(part)) return;
    }
  };
  return new Promise((resolve, reject) => {
    stream.attach({
      data: () => {
        resolve();
        stream.abort();
      },
      end() {},
      drain: pump,
      close: (error) => reject(error ?? new Error("closed")),
    });
    // The first bytes say how many there are.
    const head = new Uint8Array(8);
    new DataView(head.buffer).setFloat64(0, bytes);
    stream.write(head);
    pump();
  });
}

async function measure(session: Session): Promise<void> {
  const result: Record<string, unknown> = { role: "edge", runtime: runtime.name, transport };
  if (total > 0) {
    await exchange(session, 1_000_000);
    let cpu = cpuSeconds();
    let started = clock.nowMs();
    await exchange(session, total);
    result.bulk_mb_s = Math.round(total / 1e3 / (clock.nowMs() - started));
    result.bulk_cpu_s_gb = Number(((cpuSeconds() - cpu) / (total / 1e9)).toFixed(2));
    started = clock.nowMs();
    await Promise.all(Array.from({ length: 200 }, () => exchange(session, 100_000)));
    result.at_once_200_ms = Math.round(clock.nowMs() - started);
    cpu = cpuSeconds();
    started = clock.nowMs();
    await Promise.all(Array.from({ length: 50 }, async () => {
      for (let i = 0; i < 40; i++) await exchange(session, 100);
    }));
    result.streams_s = Math.round(2_000_000 / (clock.nowMs() - started));
    result.streams_cpu_us = Math.round((cpuSeconds() - cpu) * 500);
  }
  console.log(JSON.stringify(result));
  session.close(new SallyportError("shutdown", "Session ended: all is measured", { side: "local" }));
}

function handler(): SessionHandler {
  return {
    stream: (stream) => {
      let left: number | undefined;
      stream.attach({
        data: (chunk) => {
          left = left === undefined
            ? new DataView(chunk.buffer, chunk.byteOffset).getFloat64(0) + 8 - chunk.length
            : left - chunk.length;
          if (left === 0) stream.write(new Uint8Array(1));
        },
        end() {},
        drain() {},
        close() {},
      });
    },
    streamClosed() {},
    streamRefused() {},
    ended: () => {
      const rssMb = Math.round(process.memoryUsage().rss / 1e6);
      if (role === "agent") {
        console.log(JSON.stringify({ role, runtime: runtime.name, cpu_s: cpuSeconds(), rss_mb: rssMb }));
      }
      setTimeout(() => process.exit(0), 50);
    },
  };
}

if (role === "edge") {
  const ready = await listen(runtime, transport, port, (session) => {
    setTimeout(() => void measure(session), 0);
    return handler();
  });
  console.log(ready);
} else await dial(runtime, transport, port, process.argv[6] ?? "", handler);
