/** What is said of an authority that can't be reached, with this runtime's own client and server. */
import assert from "node:assert/strict";
import { createServer } from "node:https";
import { after, before, describe, it } from "node:test";
import { authorityFetch } from "../../../src/agent/acme/https_client.ts";
import { makeCertificate } from "../../../src/crypto/certificate.ts";
import { freePorts } from "../../support/free_ports.ts";
import { portOf } from "../../support/plain_peer.ts";

describe("authorityFetch", () => {
  let server: ReturnType<typeof createServer>;
  before(async () => {
    const request = { commonName: "localhost", names: ["localhost"], validDays: 3, wallMs: Date.now() };
    const { certificatePem: cert, keyPem: key } = await makeCertificate(request);
    server = createServer({ cert, key }, (_, answer) => answer.end());
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  });
  after(() => server.close());

  const from = (port: number) =>
    authorityFetch()({ method: "GET", url: `https://localhost:${port}/directory` });

  it("names the flag for a private authority that isn't trusted", async () => {
    await assert.rejects(from(portOf(server)), {
      code: "authority_unreachable",
      message: /^Cannot reach certificate authority https:.* doesn't trust .* --acme-ca, or .* clock$/,
    });
  });

  it("says so where nobody listens", async () => {
    await assert.rejects(from(await freePorts(1)), {
      message: /connection refused: nothing listens at localhost:/,
    });
  });
});
