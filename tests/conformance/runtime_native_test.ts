import process from "node:process";
import { currentRuntime } from "../../src/runtime/mod.ts";
import type { Runtime } from "../../src/runtime/port.ts";
import type { Harness } from "./runtime_helpers.ts";
import { runtimeSuite } from "./runtime_suite.ts";

function open(runtime: Runtime, more: Partial<Harness> = {}): Promise<Harness> {
  return Promise.resolve({
    runtime,
    host: "127.0.0.1",
    virtualTime: false,
    run: (body) => body(),
    fetch: (url) => fetch(url),
    ...more,
  });
}

runtimeSuite("native", async () => open(await currentRuntime()));

// Deno has another kind of sockets where the peer is known to speak.
if (process.versions.deno !== undefined) {
  const { createDenoRuntime } = await import("../../src/runtime/deno/deno.ts");
  for (const how of ["with", "without"] as const) {
    runtimeSuite(`native, on handles, ${how} native code`, () => {
      const runtime = createDenoRuntime(how === "with" ? {} : { sockets: null });
      return open({
        ...runtime,
        listen: (options) => runtime.listen({ ...options, peerSpeaks: true }),
        dial: (options) => runtime.dial({ ...options, peerSpeaks: true }),
      }, { peersSpeak: true });
    });
  }
}
