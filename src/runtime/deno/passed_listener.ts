/**
 * Sockets that a service manager passes. Deno accepts only on sockets that it has opened itself, so it opens one at a port
 * of its own, and the passed socket takes its descriptor and its place in the event loop: the epoll entry is made again as
 * it was. From then on the listener is Deno's own. It takes native code on Linux.
 *
 * @module
 */
import { SallyportError } from "../../errors.ts";
import { ipText } from "../../wire/ip/networks.ts";
import type { Address, Bytes } from "../port.ts";
import { noPassedSockets } from "../shared.ts";
import { openSystemFunctions } from "./system_sockets.ts";

const FUNCTIONS = {
  close: { parameters: ["i32"], result: "i32" },
  dup3: { parameters: ["i32", "i32", "i32"], result: "i32" },
  epoll_ctl: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
  getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
  ioctl: { parameters: ["i32", "u64", "buffer"], result: "i32" },
  open: { parameters: ["buffer", "i32"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "i32" },
} as const;

type Library = Deno.DynamicLibrary<typeof FUNCTIONS>["symbols"];

// Of Linux, on the processors that Deno runs on.
const AF_INET = 2;
const AF_INET6 = 10;
const SOL_SOCKET = 1;
const SO_ACCEPTCONN = 30;
const O_CLOEXEC = 0x80000;
const FIONBIO = 0x5421n;
const EPOLL_CTL_ADD = 1;

/** Where the event loop and the listener are looked for: a program that has just started has few descriptors. */
const DESCRIPTORS_MAX = 1_024;

/** Accepts on a TCP socket that already listens, which must not be used otherwise from then on. */
export function listenOnPassed(
  passed: number,
): { readonly listener: Deno.TcpListener; readonly address: Address } {
  const library = openSystemFunctions(FUNCTIONS);
  if (library === undefined) {
    throw noPassedSockets("on Deno it takes permission for native code (--allow-ffi) and Linux");
  }
  const address = addressOf(passed, library);
  if (address === undefined) {
    throw cannotListen(passed, "config_invalid", "it isn't a TCP socket that listens");
  }
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const descriptor = descriptorOf(listener, library);
  const entry = entryOf(descriptor, library);
  const replaced = entry !== undefined &&
    library.ioctl(passed, FIONBIO, Uint32Array.of(1)) === 0 &&
    library.dup3(passed, descriptor, O_CLOEXEC) === descriptor &&
    library.epoll_ctl(entry.epoll, EPOLL_CTL_ADD, descriptor, entry.event) === 0;
  if (!replaced) {
    listener.close();
    throw cannotListen(passed, "not_supported", `Deno ${Deno.version.deno} waits for sockets in another way`);
  }
  library.close(passed);
  return { listener, address };
}

function cannotListen(
  descriptor: number,
  code: "config_invalid" | "not_supported",
  why: string,
): SallyportError {
  return new SallyportError(code, `Cannot listen on file descriptor ${descriptor}: ${why}`, {
    side: "config",
  });
}

/** The address of a TCP socket, if it listens. */
function addressOf(descriptor: number, library: Library): Address | undefined {
  const name = new Uint8Array(28);
  const length = Uint32Array.of(name.length);
  if (library.getsockname(descriptor, name, length) !== 0) return undefined;
  const view = new DataView(name.buffer);
  const family = view.getUint16(0, true);
  if (family !== AF_INET && family !== AF_INET6) return undefined;
  const listens = Uint32Array.of(0);
  library.getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, listens, Uint32Array.of(listens.byteLength));
  if (listens[0] === 0) return undefined;
  return {
    host: ipText(family === AF_INET ? name.subarray(4, 8) : name.subarray(8, 24)),
    port: view.getUint16(2),
  };
}

/** The descriptor of a listener that has a port of its own, or -1. */
function descriptorOf({ addr }: Deno.TcpListener, library: Library): number {
  for (let descriptor = 0; descriptor < DESCRIPTORS_MAX; descriptor++) {
    const found = addressOf(descriptor, library);
    if (found?.port === addr.port && found.host === addr.hostname) return descriptor;
  }
  return -1;
}

/** What the event loop waits for at a descriptor: its epoll instance, and the entry as `epoll_ctl` takes it. */
function entryOf(
  descriptor: number,
  library: Library,
): { readonly epoll: number; readonly event: Bytes } | undefined {
  for (let epoll = 0; epoll < DESCRIPTORS_MAX; epoll++) {
    const found = new RegExp(`^tfd: +${descriptor} events: +([0-9a-f]+) data: +([0-9a-f]+)`, "m")
      .exec(infoOf(epoll, library));
    if (found === null) continue;
    const [, events, data] = found;
    // Without a gap on x86-64.
    const dataAt = Deno.build.arch === "x86_64" ? 4 : 8;
    const event = new Uint8Array(dataAt + 8);
    const view = new DataView(event.buffer);
    view.setUint32(0, Number(`0x${events}`), true);
    view.setBigUint64(dataAt, BigInt(`0x${data}`), true);
    return { epoll, event };
  }
  return undefined;
}

/** What the system says of a descriptor. Deno itself reads files of `/proc` only with all permissions. */
function infoOf(descriptor: number, library: Library): string {
  const path = new TextEncoder().encode(`/proc/self/fdinfo/${descriptor}\0`);
  const file = library.open(path, O_CLOEXEC);
  if (file < 0) return "";
  const decoder = new TextDecoder();
  const part = new Uint8Array(4096);
  let text = "";
  for (;;) {
    const count = library.read(file, part, BigInt(part.length));
    if (count <= 0) break;
    text += decoder.decode(part.subarray(0, count), { stream: true });
  }
  library.close(file);
  return text;
}
