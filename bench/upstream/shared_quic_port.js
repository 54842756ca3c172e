// Two QUIC endpoints at one UDP port, as the workers of a server would need. Runs on Deno (`deno run -A --unstable-net`)
// and Bun.
import { generateKeyPairSync } from "node:crypto";
import process from "node:process";

const PORT = 45_999;

async function open() {
  if ("Deno" in globalThis) {
    // It has no option to share the port; these are those of Deno's TCP and UDP sockets.
    const options = { hostname: "127.0.0.1", port: PORT, reuseAddress: true, reusePort: true };
    return new Deno.QuicEndpoint(options).addr;
  }
  const quic = await import("node:" + "quic");
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const endpoint = { address: `127.0.0.1:${PORT}`, reusePort: true };
  const sni = { "*": { keys: [privateKey], certs: [] } };
  // Its failed bind (EADDRINUSE by strace) is seen only in the address.
  return (await quic.listen(() => {}, { endpoint, alpn: ["x"], sni })).address;
}

for (const which of ["first", "second"]) {
  try {
    console.log(`${which} endpoint: ${(await open()) === undefined ? "not bound" : "bound"}`);
  } catch (error) {
    console.log(`${which} endpoint: ${error.message}`);
  }
}
process.exit(0);
