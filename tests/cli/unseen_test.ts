/** What somebody on the way and the edge itself come to see: every byte between visitor, edge and agent is recorded. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { folderTexts } from "../support/folder_texts.ts";
import { skipWithout } from "../support/system_programs.ts";
import { startTarget } from "../support/terminated.ts";
import { programStarter, startServe } from "./program.ts";

const timeout = 60_000;
/** What the page and the visitor say: it mustn't be on the way in any form that can be read. */
const SECRETS = ["the-page-says-this", "the-visitor-asks-this", "PRIVATE KEY", "GET /", "HTTP/1.1"];

/** Passes bytes on to a port, and keeps all of them. */
class Recorder {
  readonly chunks: Uint8Array[] = [];
  #server: Server | undefined;

  async listen(target: number): Promise<number> {
    this.#server = createServer({ allowHalfOpen: true }, (near) => {
      const far = connect({ port: target, host: "127.0.0.1", allowHalfOpen: true });
      for (const [from, to] of [[near, far], [far, near]] as const) {
        from.on("data", (part) => {
          this.chunks.push(part as Uint8Array);
          to.write(part);
        });
        from.on("end", () => to.end());
        from.on("error", () => to.destroy());
      }
    });
    const server = this.#server;
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return (server.address() as AddressInfo).port;
  }

  get bytes(): string {
    return Buffer.concat(this.chunks).toString("latin1");
  }

  close(): void {
    this.#server?.close();
  }
}

describe("a tunnel", { skip: await skipWithout("curl") }, () => {
  const start = programStarter();
  const [agents, visitors] = [new Recorder(), new Recorder()];
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "sallyport-unseen-"));
  });
  after(async () => {
    for (const recorder of [agents, visitors]) recorder.close();
    await rm(folder, { recursive: true, force: true });
  });

  it("shows neither plain text nor keys on the way, nor on the edge's disk", { timeout }, async () => {
    const target = await startTarget((_, response) => response.end(`${SECRETS[0]}\n`.repeat(1_000)));
    const edgeFolder = join(folder, "edge");
    const { program: edge, port, master } = await startServe(start, edgeFolder, ["--log-level", "debug"]);
    await edge.seen(/credential-file/);
    const agent = start([
      ...["agent", "--master", master, "--credential-file", join(edgeFolder, "admin.key")],
      ...["--hostname", "site.localhost", "--to", `http://127.0.0.1:${target.port}`],
      ...["--edge", `127.0.0.1:${await agents.listen(port)}`, "--data-dir", join(folder, "agent")],
    ]);
    await agent.seen(/connected to the edge/, "stderr");
    const door = await visitors.listen(port);
    const url = `https://site.localhost:${door}/${SECRETS[1]}`;
    await writeFile(join(folder, "said"), SECRETS[1]!);
    for (const version of ["--http1.1", "--http2"]) {
      const page = await new Promise<string>((resolve, reject) => {
        const words = ["-sk", version, "--resolve", `site.localhost:${door}:127.0.0.1`];
        const said = ["--data-binary", `@${join(folder, "said")}`, url];
        execFile("curl", [...words, ...said], { timeout: 60_000 }, (error, out) => {
          if (error === null) resolve(out);
          else reject(error);
        });
      });
      assert.equal(page.length, 1_000 * (SECRETS[0]!.length + 1));
    }
    for (const program of [agent, edge]) {
      program.signal("SIGTERM");
      assert.equal(await program.ended, 0);
    }
    target.stop();
    for (const [recorder, least] of [[visitors, 2 * 19_000], [agents, 2 * 19_000]] as const) {
      assert.ok(recorder.bytes.length > least, "the page came by this way");
      for (const secret of SECRETS) assert.ok(!recorder.bytes.includes(secret), secret);
    }
    // The name is what the edge may know; SNI has it in plain, as TLS does.
    assert.ok(visitors.bytes.includes("site.localhost"));
    const kept = await folderTexts(edgeFolder);
    for (const text of [...kept.values(), edge.stdout, edge.stderr]) {
      for (const secret of SECRETS.slice(0, 3)) assert.ok(!text.includes(secret), secret);
    }
  });
});
