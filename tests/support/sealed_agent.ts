import { SodiumAead } from "../../src/crypto/aead.ts";
import type { Sodium } from "../../src/crypto/sodium.ts";
import type { CreatedToken } from "../../src/protocol/token/token.ts";
import { dialSealed, type DialSealedOptions } from "../../src/transport/sealed/dial.ts";
import { SealedScratch } from "../../src/transport/sealed/session.ts";
import { edgeKeys } from "./sealed.ts";
import { AGENT_HOST, EDGE_HOST, EDGE_PORT, TestAgent, type TestEdge } from "./tunnel.ts";

/** Connects an agent over the sealed transport to an edge that has {@link edgeKeys}. */
export async function connectSealed(
  test: TestEdge,
  sodium: Sodium,
  token: CreatedToken,
  more: Partial<DialSealedOptions> = {},
): Promise<TestAgent> {
  const chacha = new SodiumAead(sodium);
  const agent = new TestAgent(token);
  const runtime = test.runtime(AGENT_HOST);
  await test.network.settle(dialSealed({
    runtime,
    clock: runtime.clock,
    sodium,
    aeads: { small: chacha, chacha, aes: undefined },
    scratch: new SealedScratch(),
    host: EDGE_HOST,
    port: EDGE_PORT,
    token: token.token,
    aesKey: token.claims.aesKey,
    edgePublicKey: edgeKeys(sodium).publicKey,
    admitted: (session) => {
      agent.session = session;
      return agent;
    },
    ...more,
  }));
  await test.advance(10);
  return agent;
}
