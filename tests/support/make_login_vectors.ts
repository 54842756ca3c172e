/**
 * Writes the `login` of `tests/vectors/curve.json` and `tests/vectors/quic_transport.json`: a token, the key that stands
 * in it, and what an agent shows. Run it where the format has changed: `deno run -A tests/support/make_login_vectors.ts`.
 * The sealed transport's login stands in its own vectors (`make_sealed_vectors.ts`).
 *
 * @module
 */
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { keyPair, loadSodium } from "../../src/crypto/sodium.ts";
import { clientFirstKeys, sessionKeys } from "../../src/protocol/curve/key_schedule.ts";
import { type LoginBinding, loginProof } from "../../src/protocol/handshake/login_proof.ts";
import { encodeLogin } from "../../src/wire/login/login_messages.ts";

const TOKEN = "gAAAAAtoken";
const AES_KEY = Uint8Array.from({ length: 32 }, (_, i) => i);
const CHALLENGE = new Uint8Array(32).fill(0x5a);
const FINGERPRINT = new Uint8Array(32).fill(0xc3);

function login(binding: LoginBinding): string {
  const token = new TextEncoder().encode(TOKEN);
  return encodeLogin({ token, proof: loginProof(AES_KEY, token, binding) }).toHex();
}

async function rewrite(
  name: string,
  // deno-lint-ignore no-explicit-any
  make: (vectors: any) => Record<string, string> | Promise<Record<string, string>>,
): Promise<void> {
  const path = fileURLToPath(new URL(`../vectors/${name}`, import.meta.url).href);
  const vectors = JSON.parse(await readFile(path, "utf8"));
  vectors.login = await make(vectors);
  await writeFile(path, `${JSON.stringify(vectors, null, 2)}\n`);
  console.log(path);
}

await rewrite("curve.json", async (vectors) => {
  const crypto = await loadSodium();
  const own = keyPair(crypto, Uint8Array.fromHex(vectors.secret.c));
  const edgeKey = Uint8Array.fromHex(vectors.public.S);
  const ephemeral = Uint8Array.fromHex(vectors.public.E);
  const first = clientFirstKeys(crypto, own, edgeKey, Uint8Array.fromHex(vectors.public.M))!;
  const { channel } = sessionKeys(crypto, first, crypto.sharedSecret(own.secretKey, ephemeral)!, ephemeral);
  const bytes = login({ transport: "curve", edgeKey, channel });
  return { token: TOKEN, aes_key: AES_KEY.toHex(), channel: channel.toHex(), bytes };
});
await rewrite("quic_transport.json", () => ({
  token: TOKEN,
  aes_key: AES_KEY.toHex(),
  certificate_fingerprint: FINGERPRINT.toHex(),
  challenge: CHALLENGE.toHex(),
  bytes: login({ transport: "quic", edgeKey: FINGERPRINT, channel: CHALLENGE }),
}));
