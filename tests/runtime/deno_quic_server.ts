/** Run as a process of its own: a QUIC listener that counts connections and reports as JSON lines. */
import process from "node:process";
import type { SallyportError } from "../../src/errors.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { ALPN, identities } from "../conformance/quic_helpers.ts";

const quic = await (await currentRuntime()).quic();
const { own, fingerprint } = await identities();
const counts = { accepted: 0, limited: 0, failed: 0 };
const listener = await quic.listen({
  host: "127.0.0.1",
  port: 0,
  identity: own,
  alpn: [ALPN],
  accept: () => void counts.accepted++,
  refused: ({ code }: SallyportError) => void counts[code === "limit_exceeded" ? "limited" : "failed"]++,
});
console.log(JSON.stringify({ port: listener.address.port, fingerprint: Array.from(fingerprint) }));
process.stdin.on("data", () => console.log(JSON.stringify(counts)));
process.stdin.on("end", () => process.exit(0));
