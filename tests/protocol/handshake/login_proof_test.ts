/** The proof of docs/protocols/login.md: against a second implementation, and that nothing in it may differ. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHash, createHmac } from "node:crypto";
import { readFile } from "node:fs/promises";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import { checkLoginProof, loginProof } from "../../../src/protocol/handshake/login_proof.ts";

const hmac = (key: Uint8Array, ...parts: (Uint8Array | string)[]) => {
  const mac = createHmac("sha256", key);
  for (const part of parts) mac.update(part);
  return mac.digest();
};

/** From the page alone: HKDF is two HMACs where the result is 32 bytes. */
function proofByThePage(aesKey: Bytes, token: Bytes, transport: string, edgeKey: Bytes, channel: Bytes) {
  const extracted = hmac(new Uint8Array(32), aesKey);
  const key = hmac(extracted, "sallyport login 1 key", Uint8Array.of(1));
  const tokenHash = createHash("sha256").update(token).digest();
  return hmac(key, `sallyport login 1 proof\0${transport}\0`, edgeKey, channel, tokenHash).toString("hex");
}

const read = async (name: string) =>
  JSON.parse(
    await readFile(fileURLToPath(new URL(`../../vectors/${name}`, import.meta.url).href), "utf8"),
  );
const bytes = (hex: string): Bytes => new Uint8Array(Buffer.from(hex, "hex"));

describe("loginProof and checkLoginProof", () => {
  it("follows from the page, in the vectors of every transport", async () => {
    const [curve, quic, sealed] = await Promise.all(
      ["curve.json", "quic_transport.json", "sealed.json"].map(read),
    );
    const logins = [
      { transport: "curve", edgeKey: curve.public.S, ...curve.login },
      {
        transport: "quic",
        edgeKey: quic.login.certificate_fingerprint,
        ...quic.login,
        channel: quic.login.challenge,
      },
      ...sealed.sessions.map((session: Record<string, unknown>) => ({
        transport: "sealed",
        edgeKey: sealed.edge_public_key,
        token: "gAAAAA-a-token",
        aes_key: session.token_aes_key,
        channel: session.channel,
        bytes: (session.agent_records as { data: string }[])[0]!.data,
      })),
    ];
    assert.equal(logins.length, 4);
    for (const { transport, edgeKey, token, aes_key, channel, bytes: login } of logins) {
      const text = new TextEncoder().encode(token);
      const proof = proofByThePage(bytes(aes_key), text, transport, bytes(edgeKey), bytes(channel));
      const size = Buffer.from([text.length >> 8, text.length]).toString("hex");
      assert.equal(login, size + Buffer.from(text).toString("hex") + proof, transport);
    }
  });

  it("holds for one key, token, transport, edge and channel", () => {
    const fill = (value: number) => new Uint8Array(32).fill(value);
    const binding = { transport: "sealed", edgeKey: fill(2), channel: fill(3) };
    const proof = loginProof(fill(1), fill(4), binding);
    checkLoginProof(proof, fill(1), fill(4), binding);
    const wrong: [string, () => void][] = [
      ["key", () => checkLoginProof(proof, fill(9), fill(4), binding)],
      ["token", () => checkLoginProof(proof, fill(1), fill(9), binding)],
      ["transport", () => checkLoginProof(proof, fill(1), fill(4), { ...binding, transport: "curve" })],
      ["edge", () => checkLoginProof(proof, fill(1), fill(4), { ...binding, edgeKey: fill(9) })],
      ["channel", () => checkLoginProof(proof, fill(1), fill(4), { ...binding, channel: fill(9) })],
      ["length", () => checkLoginProof(proof.subarray(1), fill(1), fill(4), binding)],
      [
        "bit",
        () => checkLoginProof(proof.map((byte, i) => i === 31 ? byte ^ 1 : byte), fill(1), fill(4), binding),
      ],
    ];
    for (const [what, check] of wrong) assert.throws(check, { code: "challenge_failed" }, what);
  });
});
