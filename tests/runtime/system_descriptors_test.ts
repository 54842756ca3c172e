/** The limit and the number of open file descriptors, as the system tells them a Deno that may not read /proc. */
import assert from "node:assert/strict";
import { closeSync, openSync } from "node:fs";
import process from "node:process";
import { describe, it } from "node:test";
import { procSystem } from "../../src/runtime/descriptors.ts";
import { openSystemDescriptors } from "../../src/runtime/deno/system_descriptors.ts";

const skip = process.versions.deno === undefined || process.platform !== "linux";

describe("openSystemDescriptors", { skip }, () => {
  it("tells what /proc does", () => {
    const system = openSystemDescriptors()!;
    assert.equal(system.limit(), procSystem.limit());
    const before = system.open();
    const opened = Array.from({ length: 300 }, () => openSync("/dev/null", "r"));
    // Beside these, the process may open or close some itself.
    assert.ok(Math.abs(system.open() - procSystem.open()) < 20);
    assert.ok(Math.abs(system.open() - before - 300) < 20);
    opened.forEach(closeSync);
    assert.ok(Math.abs(system.open() - before) < 20);
  });
});
