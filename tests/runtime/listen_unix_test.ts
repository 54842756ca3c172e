import assert from "node:assert/strict";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { currentRuntime } from "../../src/runtime/mod.ts";
import type { Bytes, Conn } from "../../src/runtime/port.ts";

const folder = await mkdtemp(join(tmpdir(), "sallyport-unix-"));
after(() => rm(folder, { recursive: true, force: true }));

/** Sends back what comes, and ends when the peer does. */
function echo(conn: Conn): void {
  conn.attach({
    data: (chunk) => void conn.write(chunk),
    end: () => conn.closeWrite(),
    drain() {},
    close() {},
  });
}

function exchange(conn: Conn, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let got = "";
    conn.attach({
      data: (chunk: Bytes) => void (got += new TextDecoder().decode(chunk)),
      end: () => resolve(got),
      drain() {},
      close: (error) => error === undefined ? resolve(got) : reject(error),
    });
    conn.write(new TextEncoder().encode(text));
    conn.closeWrite();
  });
}

describe("Runtime.listenUnix", () => {
  it("accepts connections of dialUnix, which end one direction at a time", async () => {
    const runtime = await currentRuntime();
    const path = join(folder, "echo.sock");
    const listener = await runtime.listenUnix({ path, accept: echo });
    assert.deepEqual(listener.address, { host: path, port: 0 });
    const conn = await runtime.dialUnix({ path, timeoutMs: 5_000 });
    assert.equal(await exchange(conn, "over a unix socket"), "over a unix socket");
    listener.close();
  });

  it("replaces a socket that nobody serves, and refuses one that somebody does", async () => {
    const runtime = await currentRuntime();
    const path = join(folder, "twice.sock");
    const first = await runtime.listenUnix({ path, accept: echo });
    await assert.rejects(runtime.listenUnix({ path, accept: echo }), { code: "address_in_use" });
    first.close();
    const again = await runtime.listenUnix({ path, accept: echo });
    const conn = await runtime.dialUnix({ path, timeoutMs: 5_000 });
    assert.equal(await exchange(conn, "again"), "again");
    again.close();
  });

  it("leaves a file that is no socket alone", async () => {
    const runtime = await currentRuntime();
    const path = join(folder, "notes.txt");
    await writeFile(path, "not a socket");
    await assert.rejects(runtime.listenUnix({ path, accept: echo }));
    assert.equal((await stat(path)).size, 12);
  });
});
