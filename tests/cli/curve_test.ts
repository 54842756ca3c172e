/** The curve transport by the whole program: edge, session master and agent as processes, curl as the visitor. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { Nat } from "../support/udp_nat.ts";
import { skipWithout } from "../support/system_programs.ts";
import { startTlsSite, type TlsSite } from "../support/tls_site.ts";
import { parsePrometheus, sampleValue } from "../telemetry/prometheus.ts";
import { type Program, programStarter } from "./program.ts";

const timeout = 60_000;
const NAME = "a.example.org";
const BYTES = 20_000_000;

let folder: string;
let site: TlsSite;
const start = programStarter();
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "sallyport-curve-"));
  site = await startTlsSite(NAME);
});
after(async () => {
  await site.stop();
  await rm(folder, { recursive: true, force: true });
});

/** SHA-256 of what a visitor downloads, and its length. */
function download(edgePort: string, path: string, caFile = site.caFile): Promise<string> {
  const curl =
    `curl --silent --show-error --cacert ${caFile} --connect-to ${NAME}:443:127.0.0.1:${edgePort} ` +
    `https://${NAME}${path} | tee ${join(folder, "got")} | sha256sum`;
  return new Promise((resolve, reject) => {
    execFile("/bin/sh", ["-c", curl], { timeout: 50_000 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout.slice(0, 64));
      else reject(new Error(`${error.message}\n${stderr}`));
    });
  });
}

async function curveMetric(program: Program, name: string, labels = {}): Promise<number> {
  const [, status] = await program.seen(/metrics +(http:\/\/127\.0\.0\.1:\d+)\/metrics$/m);
  const text = await (await fetch(`${status}/metrics`)).text();
  return sampleValue(parsePrometheus(text), `sallyport_${name}`, labels);
}

describe("agent --transport curve", { skip: await skipWithout("curl") }, () => {
  it("serve tells agents all they need: key, port, transport", { timeout }, async () => {
    const dataDir = join(folder, "serve");
    const edge = start([
      ...["--listen", "127.0.0.1:0", "--master-listen", "127.0.0.1:0", "--curve-listen", "127.0.0.1:0"],
      ...["--data-dir", dataDir],
    ]);
    const [, port = ""] = await edge.seen(/visitors and agents +127\.0\.0\.1:(\d+)/);
    await edge.seen(/curve agents \(UDP\) +127\.0\.0\.1:\d+/);
    const [, master = ""] = await edge.seen(/session master +(http:\/\/127\.0\.0\.1:\d+)/);
    await edge.seen(/edge's public key +[\w-]{43}/);
    const agent = start([
      ...["agent", "--master", master, "--credential-file", join(dataDir, "admin.key"), "--hostname", NAME],
      ...["--to", `127.0.0.1:${site.port}`, "--transport", "curve", "--congestion", "newreno"],
      ...["--data-dir", join(folder, "agent-of-serve")],
    ]);
    await agent.seen(/connected to the edge.*transport=curve|transport.*curve.*connected/, "stderr");
    await download(port, "/hello");
    assert.equal(await readFile(join(folder, "got"), "utf8"), "sallyport");
    agent.signal("SIGTERM");
    assert.equal(await agent.ended, 0);
    await agent.seen(/counters of the session/, "stderr");
    edge.signal("SIGTERM");
    assert.equal(await edge.ended, 0);
    await assert.rejects(readFile(join(folder, "agent-of-serve", "known_edges")), "a named key isn't kept");
  });

  it(
    "a download completes while the agent's address changes; the edge's key is believed once",
    { timeout },
    async () => {
      const dataDir = ["--data-dir", join(folder, "edge")];
      const metrics = ["--metrics-listen", "127.0.0.1:0"];
      const edge = start([
        ...["edge", "--listen", "127.0.0.1:0", "--curve-listen", "127.0.0.1:0", ...metrics, ...dataDir],
      ]);
      const [, port = ""] = await edge.seen(/visitors and agents +127\.0\.0\.1:(\d+)/);
      const [, udpPort] = await edge.seen(/curve agents \(UDP\) +127\.0\.0\.1:(\d+)/);
      const master = start(["master", "--master-listen", "127.0.0.1:0", ...dataDir]);
      const [, url = ""] = await master.seen(/session master +(http:\/\/127\.0\.0\.1:\d+)/);
      const nat = new Nat(Number(udpPort));
      const agentArgs = [
        ...["agent", "--master", url, "--credential-file", join(folder, "edge", "admin.key")],
        ...["--hostname", NAME, "--to", `127.0.0.1:${site.port}`, "--transport", "curve"],
        ...["--edge", `127.0.0.1:${await nat.listen()}`, "--data-dir", join(folder, "agent"), ...metrics],
      ];
      try {
        const agent = start(agentArgs);
        await agent.seen(/connected to the edge/, "stderr");
        const whole = await download(port, `/bytes/${BYTES}`);
        nat.moveAtBytes = BYTES + BYTES / 4;
        assert.equal(await download(port, `/bytes/${BYTES}`), whole);
        assert.equal((await readFile(join(folder, "got"))).length, BYTES);
        assert.equal(nat.moves, 1);
        assert.equal(await curveMetric(edge, "curve_path_moves_total"), 1);
        assert.equal(await curveMetric(edge, "sessions", { transport: "curve" }), 1);
        assert.ok(await curveMetric(edge, "curve_cookies_issued_total") >= 1);
        assert.ok(await curveMetric(agent, "curve_round_trip_seconds", { stat: "min" }) > 0);
        agent.signal("SIGTERM");
        assert.equal(await agent.ended, 0);

        const pins = join(folder, "agent", "known_edges");
        const line = await readFile(pins, "utf8");
        assert.match(line, /^127\.0\.0\.1:\d+ [\w-]{43}\n$/);
        await writeFile(pins, line.replace(/ .{8}/, " AAAAAAAA"));
        const wary = start(agentArgs);
        await wary.seen(/edge_key_changed/, "stderr");
        assert.match(wary.stderr, /the key of edge .* is no longer AAAAAAAA.*known_edges/);
      } finally {
        nat.close();
      }
    },
  );
});
