import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { makeCertificate } from "../../../src/crypto/certificate.ts";
import { FernetRing, generateFernetKey } from "../../../src/crypto/fernet.ts";
import { createEdge } from "../../../src/edge/edge.ts";
import { createMemoryNetwork } from "../../../src/runtime/memory/memory.ts";
import { quicTransport } from "../../../src/transport/quic/edge.ts";
import { identities } from "../../conformance/quic_helpers.ts";

const DAY_MS = 86_400_000;
const AT = { host: "10.0.0.1", port: 4433, accepts: "quic" } as const;

describe("quicTransport", () => {
  it("refuses a certificate that Deno's agents would refuse at some date, and takes one of the same key", async () => {
    const network = createMemoryNetwork({ seed: 1 });
    const request = { commonName: "own", names: ["own.test"] };
    const { own, issued } = await identities();
    const { keyPem } = await makeCertificate({ ...request, validDays: 1, wallMs: 0 });
    const always = await makeCertificate({ ...request, validDays: "always", wallMs: 0, keyPem });
    const dated = [
      await makeCertificate({ ...request, validDays: 90, wallMs: Date.now(), keyPem }),
      await makeCertificate({ ...request, validDays: 10, wallMs: Date.now() - 100 * DAY_MS, keyPem }),
      issued,
      // The first one is the one that it shows.
      { keyPem, certificatePem: issued.certificatePem + always.certificatePem },
    ];
    const open = (identity: typeof own) =>
      createEdge({
        runtime: network.runtime(AT.host),
        ring: new FernetRing([generateFernetKey()]),
        transports: [quicTransport({ identity })],
      });
    for (const identity of dated) {
      await assert.rejects(open(identity).listen(AT), {
        code: "config_invalid",
        message: /isn't valid from 1970 to 9999, .*makeCertificate\(\{ validDays: "always", keyPem \}\)/,
      });
    }
    for (const [i, identity] of [own, always].entries()) {
      const edge = open(identity);
      assert.equal((await edge.listen({ ...AT, port: AT.port + i })).address.port, AT.port + i);
      await edge.close();
    }
  });
});
