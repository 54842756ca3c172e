import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { QuicPairs } from "../conformance/quic_helpers.ts";

test(
  "TLS secrets go to the file of SSLKEYLOGFILE, where the runtime says so",
  { timeout: 60_000 },
  async () => {
    const quic = await (await currentRuntime()).quic();
    if (!quic.capabilities.keyLog) return;
    const folder = await mkdtemp(join(tmpdir(), "sallyport-keys-"));
    const before = process.env.SSLKEYLOGFILE;
    process.env.SSLKEYLOGFILE = join(folder, "keys");
    try {
      const pairs = await QuicPairs.open(quic, "127.0.0.1");
      const { client, server } = await pairs.connect();
      await pairs.end(client, server);
      const lines = (await readFile(process.env.SSLKEYLOGFILE, "utf8")).trimEnd().split("\n");
      assert.ok(lines.length >= 4);
      for (const line of lines) assert.match(line, /^[A-Z_0-9]+ [0-9a-f]{64} [0-9a-f]{64,96}$/);
    } finally {
      if (before === undefined) delete process.env.SSLKEYLOGFILE;
      else process.env.SSLKEYLOGFILE = before;
      await rm(folder, { recursive: true, force: true });
    }
  },
);
