import { currentRuntime } from "../../src/runtime/mod.ts";
import type { Harness } from "./runtime_helpers.ts";
import { quicSuite } from "./quic_suite.ts";

async function open(): Promise<Harness> {
  return {
    runtime: await currentRuntime(),
    host: "127.0.0.1",
    virtualTime: false,
    run: (body) => body(),
    fetch: (url) => fetch(url),
  };
}

quicSuite("native", open);
