/** The sealed transport, and transfers beside it, between the two runtimes, each in both roles. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHash, randomBytes } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, afterEach, before, describe, it } from "node:test";
import { Program } from "../cli/program.ts";
import { clientHello } from "../support/client_hello.ts";
import { otherRuntime } from "../support/other_runtime.ts";

const timeout = 90_000;
const BYTES = 8_000_000;
const PIPE_ENV = { SALLYPORT_PIPE_LOGIN: "name", SALLYPORT_PIPE_PASSPHRASE: "the secret phrase" };

const other = await otherRuntime();
const skip = other === undefined && !process.env.CI ? "the other runtime isn't installed" : false;

let folder: string;
const running: Program[] = [];
before(async () => {
  assert.ok(other !== undefined || skip !== false, "the other runtime isn't on PATH");
  folder = await mkdtemp(join(tmpdir(), "sallyport-sealed-"));
});
after(() => rm(folder, { recursive: true, force: true }));
afterEach(async () => {
  await Promise.all(running.splice(0).map((program) => program.kill()));
});

function start(there: boolean, args: readonly string[], env: Record<string, string> = {}): Program {
  const program = new Program(args, env, undefined, there ? other : undefined);
  running.push(program);
  return program;
}

function hash(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Sends a ClientHello and `data`, ends, and gives what comes back up to its end. */
function visit(port: number, data: Uint8Array): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    const visitor = connect({ port, host: "127.0.0.1", allowHalfOpen: true }, () => {
      visitor.write(clientHello("a.test"));
      visitor.end(data);
    });
    visitor.on("data", (part: Buffer) => parts.push(part)).on("error", reject);
    visitor.on("end", () => resolve(Buffer.concat(parts)));
  });
}

describe("Deno and Bun over the sealed transport", { skip }, () => {
  for (const edgeThere of [true, false]) {
    for (const libsodium of ["native", "wasm"]) {
      const who = edgeThere ? "edge there, agent here" : "edge here, agent there";
      // A single file has libsodium as WebAssembly alone.
      if (libsodium === "native" && process.env.SALLYPORT_PROGRAM) continue;
      it(`${who}, the agent's libsodium ${libsodium}; a transfer at the same port`, { timeout }, async () => {
        const name = `${edgeThere}-${libsodium}`;
        const [dataDir, drop, key] = ["data", "drop", "key"].map((what) => join(folder, `${what}-${name}`));
        await mkdir(drop!);
        const keygen = start(false, ["pipe", "keygen", key!]);
        assert.equal(await keygen.ended, 0);
        const pipeKey = keygen.stdout.trim();
        // What comes back is what was sent, after its own end: both directions end one by one.
        const echo = createServer({ allowHalfOpen: true }, (socket) => {
          const parts: Buffer[] = [];
          socket.on("data", (part: Buffer) => parts.push(part)).on("error", () => {});
          socket.on("end", () => socket.end(Buffer.concat(parts)));
        });
        await new Promise<void>((resolve) => echo.listen(0, "127.0.0.1", resolve));
        try {
          const edge = start(edgeThere, [
            ...["serve", "--listen", "127.0.0.1:0", "--master-listen", "127.0.0.1:0"],
            ...["--sealed-listen", "127.0.0.1:0", "--data-dir", dataDir!],
            ...["--pipe-folder", drop!, "--pipe-key-file", key!],
          ], PIPE_ENV);
          const [, visitors] = await edge.seen(/visitors and agents +127\.0\.0\.1:(\d+)/);
          const [, sealed] = await edge.seen(/sealed agents +127\.0\.0\.1:(\d+)/);
          const [, url = ""] = await edge.seen(/session master +(http:\/\/127\.0\.0\.1:\d+)/);
          const agent = start(!edgeThere, [
            ...["agent", "--master", url, "--hostname", "a.test"],
            ...["--to", `127.0.0.1:${(echo.address() as AddressInfo).port}`],
            ...["--credential-file", join(dataDir!, "admin.key"), "--transport", "sealed"],
            ...["--edge", `127.0.0.1:${sealed}`, "--libsodium", libsodium],
          ]);
          await agent.seen(/connected to the edge.*transport=sealed/, "stderr");

          const data = randomBytes(BYTES);
          const file = join(folder, `file-${name}`);
          await writeFile(file, data);
          const send = start(!edgeThere, [
            ...["pipe", "send", "--to", `127.0.0.1:${sealed}`, "--public-key", pipeKey, file],
          ], PIPE_ENV);
          const back = await Promise.all([visit(Number(visitors), data), visit(Number(visitors), data)]);
          const hello = clientHello("a.test");
          for (const bytes of back) {
            assert.equal(bytes.length, hello.length + BYTES);
            assert.equal(hash(bytes.subarray(hello.length)), hash(data));
          }
          assert.equal(await send.ended, 0, send.stderr);
          assert.match(send.stderr, /in its place/);
          const files = await readdir(drop!);
          assert.equal(files.length, 1);
          assert.equal(hash(await readFile(join(drop!, files[0]!))), hash(data));
          await edge.seen(/Received a transfer/, "stderr");

          agent.signal("SIGTERM");
          assert.equal(await agent.ended, 0);
          edge.signal("SIGTERM");
          assert.equal(await edge.ended, 0);
        } finally {
          echo.close();
        }
      });
    }
  }
});
