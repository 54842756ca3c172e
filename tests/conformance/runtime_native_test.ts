import process from "node:process";
import { currentRuntime } from "../../src/runtime/mod.ts";
import type { Runtime } from "../../src/runtime/port.ts";
import type { Harness } from "./runtime_helpers.ts";
import { runtimeSuite } from "./runtime_suite.ts";

async function open(runtime: Promise<Runtime> = currentRuntime()): Promise<Harness> {
  return {
    runtime: await runtime,
    host: "127.0.0.1",
    virtualTime: false,
    run: (body) => body(),
    fetch: (url) => fetch(url),
  };
}

runtimeSuite("native", open);

// As without permission for native code.
if (process.versions.deno !== undefined) {
  const { createDenoRuntime } = await import("../../src/runtime/deno/deno.ts");
  runtimeSuite(
    "native, by Deno's own calls",
    () => open(Promise.resolve(createDenoRuntime({ sockets: null }))),
  );
}
