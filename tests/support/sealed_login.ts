/**
 * A login by the sealed transport, whatever the connection and the proof.
 *
 * @module
 */
import type { Bytes } from "../../src/bytes/bytes.ts";
import { chooseAeads } from "../../src/crypto/aead.ts";
import { systemRandom } from "../../src/crypto/random.ts";
import { loadSodium } from "../../src/crypto/sodium.ts";
import { SealedAgentHandshake } from "../../src/protocol/handshake/sealed_agent.ts";
import { RecordOpener, RecordScratch, RecordSealer } from "../../src/protocol/records/sealed_records.ts";
import { decodeVerdict, encodeLogin } from "../../src/wire/login/login_messages.ts";

/** What a login takes. */
export interface SealedLogin {
  readonly edgeKey: Bytes;
  readonly token: string;
  readonly unixSeconds: number;
  /** What is shown as the proof, where `channel` is what the edge binds it to. */
  prove(channel: Bytes): Bytes;
  write(bytes: Bytes): void;
  /** Resolves with the next bytes from the edge. */
  next(): Promise<Bytes>;
}

/** Logs in; gives what the edge says, undefined for welcome, and what seals further records. */
export async function logInSealed(
  { edgeKey, token, unixSeconds, prove, write, next }: SealedLogin,
): Promise<{ readonly refused: string | undefined; readonly sealer: RecordSealer }> {
  const sodium = await loadSodium();
  const aeads = chooseAeads(sodium);
  const handshake = new SealedAgentHandshake({ sodium, edgePublicKey: edgeKey, unixSeconds });
  write(handshake.first);
  let opened = handshake.push(await next());
  while (opened === undefined) opened = handshake.push(await next());
  const ciphers = { sodium, small: aeads.small, bulk: aeads.chacha };
  const sealer = new RecordSealer(
    { ...ciphers, key: opened.keys.agent },
    new RecordScratch(),
    systemRandom,
  );
  const opener = new RecordOpener({ ...ciphers, key: opened.keys.edge }, new RecordScratch());
  const proof = prove(opened.keys.channel);
  write(sealer.seal(encodeLogin({ token: new TextEncoder().encode(token), proof })).slice());
  let record = opener.openOne(await next());
  while (record === undefined) record = opener.openOne(await next());
  return { refused: decodeVerdict(record.data.slice()), sealer };
}
