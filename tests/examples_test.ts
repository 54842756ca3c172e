import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { runFile } from "./support/run_file.ts";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

/** What each example prints, whole. */
const EXPECTED: Readonly<Record<string, readonly string[]>> = {
  "agent_with_own_connector.ts": ["127.0.0.1 said hello"],
  "edge_with_own_authorisation.ts": [
    "alice.example.org comes from 127.0.0.1: welcome",
    "bob.example.org comes from 127.0.0.1: refused",
    'sallyport_refusals_total{what="agent",reason="unauthorized"} 1',
  ],
  "master_without_a_server.ts": [
    "201: alice.example.org and www.alice.example.org at edge.example.org:8443",
    '403: Cannot issue token: hostname "bob.example.org" is not a name that this key may serve',
  ],
  "tunnel_services.ts": [
    "the edge asks the device: GET /status: 21 °C",
    "the device asks the edge: what time is it? 12:00",
    "request_refused",
  ],
  "tunnel_daemon.ts": [
    "connected: kitchen",
    "authenticated: kitchen by secret",
    "registered: kitchen at node-1, room: ground floor",
    "unauthorized",
    "disconnected: kitchen",
    "registered: nobody",
  ],
  "public_port.ts": ["hello from the device"],
  "fetch_handler.ts": ["127.0.0.1 asked home.localhost for /page"],
};

for (const [name, lines] of Object.entries(EXPECTED)) {
  test(`examples/${name} does what it shows, and ends by itself`, async () => {
    const { code, stdout, stderr } = await runFile(join("examples", name));
    assert.equal(code, 0, stderr);
    assert.deepEqual(stdout.trimEnd().split("\n"), lines);
    assert.equal(stderr, "");
  });
}

test("every example is run", async () => {
  const files = (await readdir(join(ROOT, "examples"))).filter((name) => name.endsWith(".ts"));
  assert.deepEqual(files.sort(), Object.keys(EXPECTED).sort());
});
