import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { hashOf, pattern, Watched } from "../conformance/runtime_helpers.ts";

describe("Runtime.dialUnix", () => {
  it("carries bytes both ways with half-close, and names the socket where there is none", async () => {
    const folder = await mkdtemp(join(tmpdir(), "sallyport-"));
    const path = join(folder, "echo.sock");
    const server = createServer({ allowHalfOpen: true }, (socket) => void socket.pipe(socket));
    try {
      await new Promise<void>((resolve) => server.listen(path, resolve));
      const { dialUnix } = await currentRuntime();
      const conn = await dialUnix({ path, timeoutMs: 5_000 });
      assert.equal(conn.remote.port, 0);
      const watched = new Watched(conn);
      conn.write(pattern(100_000));
      conn.closeWrite();
      await watched.until(() => watched.ended || watched.closes > 0);
      assert.equal(watched.hash, hashOf(pattern(100_000)));
      await assert.rejects(dialUnix({ path: join(folder, "none.sock"), timeoutMs: 5_000 }), {
        code: "connection_refused",
        message: /^Cannot connect to unix:.*none\.sock: /,
      });
    } finally {
      server.close();
      await rm(folder, { recursive: true });
    }
  });
});
