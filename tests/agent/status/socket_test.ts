/** Addresses of the status socket; whole agents ask over it in tests/cli/agent_services_test.ts. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { socketAddress } from "../../../src/agent/status/socket.ts";

describe("socketAddress", () => {
  it("is the file, except on Windows, where each data folder has a named pipe", () => {
    assert.equal(socketAddress("data/agent.sock", "darwin"), "data/agent.sock");
    const pipe = socketAddress("C:\\data\\agent.sock", "win32");
    assert.match(pipe, /^\\\\\.\\pipe\\sallyport-[0-9a-f]{32}$/);
    assert.equal(socketAddress("c:/Data/agent.sock", "win32"), pipe);
    assert.notEqual(socketAddress("D:\\data\\agent.sock", "win32"), pipe);
  });
});
