import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { it } from "node:test";
import { build, freePorts, listens, Unavailable } from "../../bench/machine.ts";

it("build() names a missing builder, where it is to be had, and how to go on without it", async () => {
  const building = build("bore", "cargo", ["install", "bore-cli"], { env: { PATH: "/nowhere" } });
  const message =
    "Cannot build bore: it needs Rust, which https://rustup.rs installs; install it, or leave bore out with --peers";
  await assert.rejects(building, (error) => error instanceof Unavailable && error.message === message);
});

it("listens() waits for a port, and says which one it has waited for in vain", async () => {
  const [port] = await freePorts(1);
  await assert.rejects(
    listens(port!, 50),
    (error) =>
      error instanceof Unavailable && error.message === `it started, but doesn't listen on port ${port}`,
  );
  const waiting = listens(port!);
  const server = createServer().listen(port, "127.0.0.1");
  await once(server, "listening");
  await waiting;
  server.close();
});
