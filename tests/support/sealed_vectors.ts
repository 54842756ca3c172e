/**
 * Sessions of the sealed transport with randomness that is known.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { NodeAead, SodiumAead } from "../../src/crypto/aead.ts";
import type { RandomSource } from "../../src/crypto/random.ts";
import type { Sodium } from "../../src/crypto/sodium.ts";
import { SealedAgentHandshake } from "../../src/protocol/handshake/sealed_agent.ts";
import { AnsweredFlights, SealedEdgeHandshake } from "../../src/protocol/handshake/sealed_edge.ts";
import { RecordScratch, RecordSealer } from "../../src/protocol/records/sealed_records.ts";
import {
  CreditFrame,
  encodeCreditFrame,
  encodeOpen,
  encodeReason,
} from "../../src/wire/credit/credit_frame.ts";
import { loginProof } from "../../src/protocol/handshake/login_proof.ts";
import { encodeLogin, encodeVerdict } from "../../src/wire/login/login_messages.ts";
import { edgeKeys, knownRandom, NOW_S } from "./sealed.ts";

/** The key that stands in the token. */
const AES_KEY = Uint8Array.from({ length: 32 }, (_, i) => i);

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const text = (content: string): Bytes => new TextEncoder().encode(content) as Bytes;

/** A source that notes what it gave. */
function noting(source: RandomSource): RandomSource & { readonly given: string[] } {
  const given: string[] = [];
  return {
    given,
    fill(target) {
      source.fill(target);
      given.push(hex(target));
    },
  };
}

/** Both sessions: without AES-256-GCM in large boxes, and with it. */
export function makeSealedVectors(sodium: Sodium): unknown {
  const keys = edgeKeys(sodium);
  return {
    about: "docs/protocols/sealed.md; every string of bytes is hex",
    edge_secret_key: hex(keys.secretKey),
    edge_public_key: hex(keys.publicKey),
    unix_seconds: NOW_S,
    sessions: [false, true].map((aes) => session(sodium, aes)),
    frames: frames(),
  };
}

function session(sodium: Sodium, aes: boolean): unknown {
  const keys = edgeKeys(sodium);
  const agentRandom = noting(knownRandom(`agent ${aes}`));
  const edgeRandom = noting(knownRandom(`edge ${aes}`));
  const agent = new SealedAgentHandshake({
    sodium,
    edgePublicKey: keys.publicKey,
    unixSeconds: NOW_S,
    aes,
    random: agentRandom,
  });
  const edge = new SealedEdgeHandshake({
    sodium,
    keys,
    answered: new AnsweredFlights(),
    unixSeconds: () => NOW_S,
    aes,
    random: edgeRandom,
  });
  const { answer, keys: derived } = edge.push(agent.first)!;
  const token = text("gAAAAA-a-token");
  const binding = { transport: "sealed", edgeKey: keys.publicKey, channel: derived.channel };
  const proof = loginProof(AES_KEY, token, binding);
  const bulk = aes ? new NodeAead("aes-256-gcm") : new SodiumAead(sodium);
  const records = (role: "agent" | "edge", plain: Bytes[]) => {
    const random = noting(knownRandom(`${role} records ${aes}`));
    const sealer = new RecordSealer(
      { sodium, small: new SodiumAead(sodium), bulk, key: derived[role] },
      new RecordScratch(),
      random,
    );
    return plain.map((data, i) => {
      const wire = hex(sealer.seal(data));
      return { data: hex(data), padding_drawn: random.given[i] ?? null, wire };
    });
  };
  return {
    aes,
    agent: {
      salt: agentRandom.given[0],
      secret_key: agentRandom.given[1],
      padding_drawn: agentRandom.given[2],
    },
    edge: {
      salt: edgeRandom.given[0],
      secret_key: edgeRandom.given[1],
      padding_drawn: edgeRandom.given[2],
    },
    first_flight: hex(agent.first),
    answer: hex(answer),
    agent_key: hex(derived.agent),
    edge_key: hex(derived.edge),
    channel: hex(derived.channel),
    token_aes_key: hex(AES_KEY),
    agent_records: records("agent", [
      encodeLogin({ token, proof }),
      encodeCreditFrame(CreditFrame.CREDIT, 0, new Uint8Array([0x01, 0xf0, 0, 0])),
      encodeCreditFrame(CreditFrame.DATA, 1, text("hello visitor")),
    ]),
    edge_records: records("edge", [
      encodeVerdict(undefined),
      encodeOpen(1, { address: "192.0.2.7", port: 54_321, serverName: "a.test", creditBytes: 131_072 }),
      encodeCreditFrame(CreditFrame.DATA, 1, new Uint8Array(4096).fill(0x17)),
    ]),
  };
}

function frames(): unknown {
  const open = (address: string, port: number, serverName?: string) => ({
    open: { address, port, server_name: serverName ?? null, credit: 131_072 },
    wire: hex(encodeOpen(2, { address, port, serverName, creditBytes: 131_072 })),
  });
  return [
    open("192.0.2.7", 54_321, "a.test"),
    open("2001:db8::7", 443),
    { fin: 2, wire: hex(encodeCreditFrame(CreditFrame.FIN, 2, new Uint8Array(0))) },
    {
      reset: 2,
      reason: "endpoint_unreachable",
      wire: hex(encodeReason(CreditFrame.RESET, 2, "endpoint_unreachable")),
    },
    { goaway: "shutdown", wire: hex(encodeReason(CreditFrame.GOAWAY, 0, "shutdown")) },
    { verdict: "token_expired", data: hex(encodeVerdict("token_expired")) },
  ];
}
