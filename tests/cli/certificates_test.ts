/**
 * The whole chain by real programs: edge, session master and agent, with Pebble as the authority, which looks for the name
 * at the edge's port; and curl as the visitor, who verifies.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { promisify } from "node:util";
import { makeCertificate } from "../../src/crypto/certificate.ts";
import { folderTexts } from "../support/folder_texts.ts";
import { skipWithout } from "../support/system_programs.ts";
import { startTarget } from "../support/terminated.ts";
import { type Pebble, skipPebble, startPebble, writeDnsHook } from "../support/pebble.ts";
import { Program, programStarter, startServe } from "./program.ts";

const timeout = 90_000;
const skip = await skipPebble() || await skipWithout("curl");

describe("agent with certificates from files", { skip }, () => {
  const start = programStarter();
  let folder: string;
  let edge: Program;
  let edgePort = 0;
  let master = "";
  let pebble: Pebble;
  let target: Awaited<ReturnType<typeof startTarget>>;

  // No hook, since Bun ends those after 5 s.
  it("has an edge, a session master, an authority and a target", { timeout }, async () => {
    folder = await mkdtemp(join(tmpdir(), "sallyport-chain-"));
    target = await startTarget((request, response) => response.end(JSON.stringify(request.headers)));
    ({ port: edgePort, master } = await startServe(
      (args) => edge = new Program(args),
      join(folder, "edge"),
      ["--acme-dns-hook", join(folder, "hook")],
    ));
    pebble = await startPebble({ tlsPort: edgePort });
    await writeDnsHook(folder, pebble);
    await writeFile(join(folder, "root.pem"), await pebble.root());
  });
  after(async () => {
    await edge?.kill();
    await pebble?.stop();
    target?.stop();
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
  });

  function agent(...more: readonly string[]): Program {
    return start([
      ...["agent", "--master", master, "--credential-file", join(folder, "edge", "admin.key")],
      ...["--data-dir", join(folder, "agent"), "--edge", `127.0.0.1:${edgePort}`, ...more],
    ]);
  }

  async function curl(name: string, ca: string, ...more: readonly string[]): Promise<string> {
    const { stdout } = await promisify(execFile)("curl", [
      ...["-sS", "--fail", "--max-time", "60", "--cacert", ca, "--resolve", `${name}:${edgePort}:127.0.0.1`],
      ...[...more, `https://${name}:${edgePort}/`],
    ]);
    return stdout;
  }

  it(
    "answers curl, which verifies, with a certificate that it has just got, and with one that it kept",
    { timeout },
    async () => {
      const to = ["--hostname", "home.example.org", "--to", `http://127.0.0.1:${target.port}`];
      const acme = [
        "--acme-directory",
        pebble.directory,
        "--acme-ca",
        pebble.caFile,
        "--acme-email",
        "me@example.org",
      ];
      const first = agent(...to, ...acme);
      await first.seen(/got a certificate/, "stderr");
      const told = JSON.parse(await curl("home.example.org", join(folder, "root.pem"))) as Record<
        string,
        string
      >;
      assert.equal(told["x-forwarded-for"], "127.0.0.1");
      assert.equal(told["x-forwarded-proto"], "https");
      const h2 = await curl(
        "home.example.org",
        join(folder, "root.pem"),
        "--http2",
        "-o",
        "/dev/null",
        "-w",
        "%{http_version}",
      );
      assert.equal(h2, "2");
      first.signal("SIGTERM");
      assert.equal(await first.ended, 0);
      // Neither the edge nor the master has seen a key.
      for (const [path, text] of await folderTexts(join(folder, "edge"))) {
        assert.ok(!text.includes("PRIVATE KEY"), path);
      }
      const second = agent(...to, ...acme);
      await second.seen(/connected to the edge/, "stderr");
      await curl("home.example.org", join(folder, "root.pem"));
      assert.doesNotMatch(second.stderr, /got a certificate/);
      second.signal("SIGTERM");
      await second.ended;
    },
  );

  it(
    "gets a certificate for a service whose access list excludes the authority, and visitors",
    { timeout },
    async () => {
      const program = agent(
        ...[
          "--hostname",
          "home.example.org",
          "--service",
          `inner.home.example.org=http://127.0.0.1:${target.port}`,
        ],
        ...["--to", `http://127.0.0.1:${target.port}`, "--block", "127.0.0.0/8"],
        ...["--acme-directory", pebble.directory, "--acme-ca", pebble.caFile],
      );
      await program.seen(/got a certificate.* name=inner\.home\.example\.org/, "stderr");
      assert.doesNotMatch(program.stderr, /Cannot get certificate/);
      await assert.rejects(curl("inner.home.example.org", join(folder, "root.pem")), /alert access denied/);
      program.signal("SIGTERM");
      await program.ended;
    },
  );

  it(
    "gets a wildcard's certificate by a DNS record that the session master sets",
    { timeout },
    async () => {
      const program = agent(
        ...["--hostname", "home.example.org", "--alias", "*.home.example.org"],
        ...["--to", `http://127.0.0.1:${target.port}`],
        ...["--acme-directory", pebble.directory, "--acme-ca", pebble.caFile],
      );
      await program.seen(/got a certificate.*\*\.home\.example\.org/, "stderr");
      const told = JSON.parse(await curl("a.home.example.org", join(folder, "root.pem"))) as Record<
        string,
        string
      >;
      assert.equal(told["x-forwarded-host"], `a.home.example.org:${edgePort}`);
      assert.deepEqual((await readFile(join(folder, "calls"), "utf8")).trimEnd().split("\n"), [
        "present _acme-challenge.home.example.org home.example.org",
        "cleanup _acme-challenge.home.example.org home.example.org",
      ]);
      program.signal("SIGTERM");
      await program.ended;
    },
  );

  it(
    "serves files, one name with a certificate from files, another with one of its own",
    { timeout },
    async () => {
      const site = join(folder, "site");
      await mkdir(site);
      await writeFile(join(site, "index.html"), "<p>hello</p>");
      const made = await makeCertificate({
        commonName: "x",
        names: ["files.example.org"],
        validDays: 9,
        wallMs: Date.now(),
      });
      await writeFile(join(folder, "cert.pem"), made.certificatePem);
      await writeFile(join(folder, "key.pem"), made.keyPem);
      const program = agent(
        ...["--hostname", "files.example.org", "--to", `file://${site}`],
        ...["--tls", `file:${join(folder, "cert.pem")},${join(folder, "key.pem")}`],
      );
      await program.seen(/connected to the edge/, "stderr");
      assert.equal(await curl("files.example.org", join(folder, "cert.pem")), "<p>hello</p>");
      program.signal("SIGTERM");
      await program.ended;
      const own = agent("--hostname", "site.localhost", "--to", `file://${site}`);
      await own.seen(/connected to the edge/, "stderr");
      assert.equal(await curl("site.localhost", join(folder, "cert.pem"), "--insecure"), "<p>hello</p>");
      const kept = join(folder, "agent", "tls", "self-signed", "site.localhost.pem");
      assert.equal(await curl("site.localhost", kept), "<p>hello</p>");
      own.signal("SIGTERM");
      await own.ended;
    },
  );
});
