import assert from "node:assert/strict";
import { it } from "node:test";
import { build, Unavailable } from "../../bench/machine.ts";

it("build() names a missing builder, where it is to be had, and how to go on without it", async () => {
  const building = build("bore", "cargo", ["install", "bore-cli"], { env: { PATH: "/nowhere" } });
  const message =
    "Cannot build bore: it needs Rust, which https://rustup.rs installs; install it, or leave bore out with --peers";
  await assert.rejects(building, (error) => error instanceof Unavailable && error.message === message);
});
