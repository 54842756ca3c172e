/**
 * `demo`: edge, session master, agent and a small HTTPS site, all in one process.
 *
 * @module
 */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MemoryCertificateStore } from "../agent/acme/certificate_store.ts";
import { serve } from "../agent/serve.ts";
import { selfSignedText } from "../agent/tls/certificate_source.ts";
import { FernetRing } from "../crypto/fernet.ts";
import { addExamples, addSettings, type CliContext, type Command, readSettings } from "./command.ts";
import { makeAdminKey, makeFernetKey } from "./keys.ts";
import { startEdge } from "./edge_server.ts";
import { startMaster } from "./master_server.ts";
import { addressList, createBase, localUrl } from "./parts.ts";
import { printStartup, shellWord } from "./startup.ts";
import { adminCredentials } from "../master/credentials.ts";
import type { Address } from "../runtime/port.ts";
import { SHUTDOWN_GRACE_MS } from "../transport/port.ts";
import type { HostPort } from "../wire/ip/host_port.ts";

/** The demo's name; every subdomain of localhost is this machine (RFC 6761 §6.3), so it needs no DNS. */
const HOSTNAME = "demo.localhost";

/** Adds the command. */
export function addDemo(program: Command, context: CliContext): void {
  const { io } = context;
  const command = program.command("demo").description(
    "Run all of it at once: an edge, a session master, an agent, and a small HTTPS site behind it.\n" +
      "Keys and certificate are made on the spot and forgotten at the end.",
  );
  addSettings(command, "demo");
  addExamples(command, io, [
    { what: "on ports 8443 and 8080, or on free ones where these are in use", args: "demo" },
    { what: "on any free ports", args: "demo --listen 127.0.0.1:0 --master-listen 127.0.0.1:0" },
  ]);
  command.action(async () => {
    const loaded = readSettings(command, "demo", io);
    const { config } = loaded;
    const base = await createBase(config, io);
    const { runtime, log, life } = base;
    context.exitCode = await life.run(async () => {
      const ring = new FernetRing([makeFernetKey()]);
      const adminKey = makeAdminKey();
      const { ready, visitors } = await startEdge(base, { ring, loaded, otherPort: true });
      const port = visitors[0]?.port ?? 8443;
      const edgeAddress = { host: "localhost", port };
      const masters = await startMaster(base, {
        ring,
        admin: adminCredentials(adminKey),
        edgeAddress,
        edgeReady: ready,
        listen: config.masterListen,
        otherPort: !loaded.origins.has("masterListen"),
      });
      const master = localUrl(masters[0] ?? { host: "127.0.0.1", port: 8080 });

      const folder = await makeFolder();
      life.add("certificate", () => rm(folder, { recursive: true, force: true }));
      const certificateFile = join(folder, "demo.pem");
      const store = new MemoryCertificateStore();
      // The agent finds it in its store; the file holds it for curl, without the key.
      const [certificate = ""] = (await selfSignedText([HOSTNAME], { clock: runtime.clock, store }))
        .split("-----BEGIN PRIVATE KEY");
      await writeFile(certificateFile, certificate);

      const agent = await serve(answer, {
        ...{ runtime, log, master, credential: adminKey, hostname: HOSTNAME, tls: "self-signed", store },
      });
      life.add("agent", () => agent.close(SHUTDOWN_GRACE_MS));
      await agent.connected;

      printStartup(io, {
        // Without its limits, which a first look doesn't need.
        runtime: { name: runtime.name, version: runtime.version },
        facts: [
          ["edge", addressList(visitors) + instead(config.listen, visitors)],
          ["session master", masters.map(localUrl).join(", ") + instead(config.masterListen, masters)],
          ["agent", `connected, serves ${HOSTNAME}`],
          ["site", "served by the agent, reachable only through the tunnel"],
        ],
        next: {
          what: "Visit the site through the tunnel, from another terminal:",
          lines: [
            `curl --cacert ${shellWord(certificateFile)} https://${HOSTNAME}:${port}/`,
            "",
            "Ctrl-C stops everything.",
          ],
        },
      });
      return { over: agent.over };
    });
  });
}

/** Says that the listeners have another port than the one that they should have. */
function instead(wanted: readonly HostPort[], got: readonly Address[]): string {
  const taken = wanted.find(({ port }) => port !== 0 && !got.some((at) => at.port === port));
  return taken === undefined ? "" : ` (port ${taken.port} is in use)`;
}

/** The site. */
function answer(request: Request): Response {
  const { host, pathname } = new URL(request.url);
  return new Response(
    `Hello from behind the tunnel.\n\nYou asked ${host} for ${pathname}. Your TLS was decrypted here, in the ` +
      "agent;\nthe edge passed its bytes on without looking inside.\n",
    { headers: { "cache-control": "no-store" } },
  );
}

/**
 * A folder for the certificate: in the data folder, if Deno's permission set allows writing there, else in the
 * system's.
 */
async function makeFolder(): Promise<string> {
  try {
    await mkdir("data", { recursive: true, mode: 0o700 });
    return await mkdtemp(join("data", "demo-"));
  } catch {
    return await mkdtemp(join(tmpdir(), "sallyport-demo-"));
  }
}
