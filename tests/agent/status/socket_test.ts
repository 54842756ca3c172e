/** The status socket; whole agents answer over it in tests/cli/agent_services_test.ts. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, before, describe, it } from "node:test";
import type { StatusReport } from "../../../src/agent/status/report.ts";
import { readStatus, serveStatus, socketAddress } from "../../../src/agent/status/socket.ts";

describe("socketAddress", () => {
  it("is the file, except on Windows, where each data folder has a named pipe", () => {
    assert.equal(socketAddress("data/agent.sock", "darwin"), "data/agent.sock");
    const pipe = socketAddress("C:\\data\\agent.sock", "win32");
    assert.match(pipe, /^\\\\\.\\pipe\\sallyport-[0-9a-f]{32}$/);
    assert.equal(socketAddress("c:/Data/agent.sock", "win32"), pipe);
    assert.notEqual(socketAddress("D:\\data\\agent.sock", "win32"), pipe);
  });
});

describe("serveStatus", { skip: process.platform === "win32" }, () => {
  let path: string;
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "sallyport-status-"));
    path = join(folder, "agent.sock");
  });
  after(() => rm(folder, { recursive: true, force: true }));

  /** What comes back for these parts of a query, until the connection ends. */
  function ask(...parts: readonly string[]): Promise<string> {
    return new Promise((resolve) => {
      let text = "";
      const socket = connect(path, async () => {
        for (const part of parts) await new Promise((sent) => socket.write(part, sent));
      });
      socket.on("data", (part) => text += String(part)).on("error", () => {}).on(
        "close",
        () => resolve(text),
      );
    });
  }

  it("answers one query a connection, refuses a second agent, and ends with its connections", async () => {
    const report = { pid: 7 } as unknown as StatusReport;
    const socket = await serveStatus(path, () => report);
    assert.deepEqual(await readStatus(path), report);
    assert.match(
      await ask("GET /v1/sta", "tus HTTP/1.1\r\nhost: a\r\n", "\r\n"),
      /^HTTP\/1.1 200 OK[^]*\{"pid":7\}$/,
    );
    assert.match(
      await ask("GET /v1/other HTTP/1.1\r\n\r\n"),
      /^HTTP\/1.1 404 Not Found\r\n[^]*length: 0\r\n/,
    );
    assert.equal(await ask("x".repeat(20_000)), "");
    await assert.rejects(serveStatus(path, () => report), /another agent answers there/);
    const silent = ask();
    assert.deepEqual(await readStatus(path), report);
    await socket.close();
    assert.equal(await silent, "");
    await assert.rejects(readStatus(path), /no agent runs with this data folder/);
  });
});
