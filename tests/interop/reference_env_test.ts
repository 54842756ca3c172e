import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { REFERENCE_VERSION, referencePython, skipInterop } from "./reference_env.ts";

const skip = await skipInterop();

test(
  "the reference is there in the version that the tests are about",
  { skip, timeout: 300_000 },
  async () => {
    const script = "import importlib.metadata, snitun; print(importlib.metadata.version('snitun'))";
    const version = execFileSync(await referencePython(), ["-c", script], { encoding: "utf8" }).trim();
    assert.equal(version, REFERENCE_VERSION);
  },
);
