/**
 * How much the kernel may hold for a connection whose reader stands still.
 *
 * @module
 */
import { readFile } from "node:fs/promises";

/** Twice `kern.ipc.maxsockbuf` of macOS. */
const OTHER_SYSTEMS_BYTES = 16 * 1024 * 1024;

/** The most bytes that one TCP connection's send and receive buffers hold together on this machine. */
export async function connectionBuffersMaxBytes(): Promise<number> {
  try {
    // Each file has three numbers: the least, the first and the largest size (tcp(7)).
    const files = ["tcp_wmem", "tcp_rmem"].map((name) => readFile(`/proc/sys/net/ipv4/${name}`, "utf8"));
    return (await Promise.all(files)).reduce((sum, text) => sum + Number(text.trim().split(/\s+/)[2]), 0);
  } catch {
    return OTHER_SYSTEMS_BYTES;
  }
}
