/**
 * The small steps of a visitor and a frame, each by itself.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { chooseAeads } from "../../src/crypto/aead.ts";
import { FernetRing } from "../../src/crypto/fernet.ts";
import { type CipherName, createOpener, createSealer } from "../../src/crypto/header_cipher.ts";
import { systemRandom } from "../../src/crypto/random.ts";
import { loadSodium, makeKeyPair } from "../../src/crypto/sodium.ts";
import { SealedAgentHandshake } from "../../src/protocol/handshake/sealed_agent.ts";
import { AnsweredFlights, SealedEdgeHandshake } from "../../src/protocol/handshake/sealed_edge.ts";
import { RecordOpener, RecordScratch, RecordSealer } from "../../src/protocol/records/sealed_records.ts";
import { tryOpenToken } from "../../src/protocol/token/token.ts";
import type { Runtime } from "../../src/runtime/port.ts";
import type { Field } from "../../src/wire/http1/fields.ts";
import { HTTP_HEAD_MAX_BYTES, readRequestHead, writeRequestHead } from "../../src/wire/http1/head.ts";
import { dataFrames, FRAME_HEADER_BYTES, readFrameHeader } from "../../src/wire/http2/frames.ts";
import { encodeFields, HpackDecoder } from "../../src/wire/http2/hpack.ts";
import { readRequestFields } from "../../src/wire/http2/request.ts";
import { ClientHelloReader } from "../../src/wire/tls/client_hello.ts";
import {
  checkHeader,
  EXTRA_BYTES,
  frameSize,
  FrameType,
  HEADER_BYTES,
  writeHeader,
} from "../../src/wire/snitun/snitun_frame.ts";
import { clientHello } from "../../tests/support/client_hello.ts";
import { fernetKey, issueToken } from "../../tests/support/tokens.ts";
import { creditPair, quicPair, snitunPair } from "./sessions.ts";

/** A step to be measured. */
export interface Step {
  readonly name: string;
  /** How many things a call does; 1 by default. */
  readonly per?: number;
  /** Does them. The result depends on them, so that no compiler can leave them out. */
  run(): number;
}

const CIPHERS: readonly CipherName[] = ["aes-cbc", "aes-gcm", "aes-gcm-siv"];
/** Headers that wait together under load; also, so many short things at once that calling them doesn't matter. */
const BATCH = 16;
const CHUNK_BYTES = [64, 65_536] as const;

/** The steps on every visitor's way. */
export function visitorSteps(): Step[] {
  return [frames, ciphers, hellos, tokens, requests, sessions].flatMap((steps) => steps());
}

function frames(): Step[] {
  const channel = bytes(16);
  const extra = bytes(EXTRA_BYTES);
  const header: Bytes = new Uint8Array(HEADER_BYTES);
  let size = 0;
  const write = () => writeHeader(header, 0, channel, FrameType.DATA, ++size & 0xffff, extra);
  const check = () => (write(), checkHeader(header, 2) === undefined ? frameSize(header) : 1);
  return [
    { name: "frame: write a header", per: BATCH, run: () => times(BATCH, () => (write(), header[20]!)) },
    { name: "frame: write and check a header", per: BATCH, run: () => times(BATCH, check) },
  ];
}

function ciphers(): Step[] {
  return CIPHERS.flatMap((cipher) => {
    const [key, iv] = [bytes(32), bytes(16)];
    const sealing = [1, BATCH].map((count): Step => {
      const plain = bytes(HEADER_BYTES * count);
      const sealer = createSealer(cipher, key, iv, "edge");
      const name = `${cipher}: seal a header${count === 1 ? "" : `, ${count} at once`}`;
      return { name, per: count, run: () => sealer.seal(plain, HEADER_BYTES)[0]! };
    });
    // What is opened must come in order, so it is sealed along.
    const [sealer, opener] = [createSealer(cipher, key, iv, "edge"), createOpener(cipher, key, iv, "edge")];
    const plain = bytes(HEADER_BYTES);
    const both = () => opener.open(sealer.seal(plain, HEADER_BYTES))[0]!;
    return [...sealing, { name: `${cipher}: seal and open a header`, run: both }];
  });
}

function hellos(): Step[] {
  const hello: Bytes = new Uint8Array(clientHello("home.example.org"));
  const cut = hello.length >> 1;
  const [head, tail] = [hello.slice(0, cut), hello.slice(cut)];
  const inTwo = () => {
    const reader = new ClientHelloReader();
    reader.push(head);
    return reader.push(tail).kind.length;
  };
  return [
    {
      name: `ClientHello of ${hello.length} bytes`,
      run: () => new ClientHelloReader().push(hello).kind.length,
    },
    { name: "ClientHello in two segments", run: inTwo },
  ];
}

function tokens(): Step[] {
  const key = fernetKey();
  const now = Date.now() / 1000;
  const encode = (text: string): Bytes => new TextEncoder().encode(text);
  const good = encode(issueToken(key, { hostname: "home.example.org" }).token);
  const forged = encode(issueToken(fernetKey(), { hostname: "home.example.org" }).token);
  const ring = new FernetRing([key]);
  const threeKeys = new FernetRing([fernetKey(), fernetKey(), key]);
  const open = (keys: FernetRing, token: Bytes) => (): number =>
    typeof tryOpenToken(keys, token, now) === "string" ? 1 : 2;
  return [
    { name: "token: open", run: open(ring, good) },
    { name: "token: open with the oldest of three keys", run: open(threeKeys, good) },
    { name: "token: refuse a forged one", run: open(ring, forged) },
    { name: "token: refuse a forged one, three keys", run: open(threeKeys, forged) },
  ];
}

/** Heads of requests as a browser sends them, and frames of an answer. */
function requests(): Step[] {
  const fields: readonly Field[] = [
    ["host", "home.example.org"],
    ["user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"],
    ["accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"],
    ["accept-language", "en-GB,en;q=0.5"],
    ["accept-encoding", "gzip, deflate, br, zstd"],
    ["cookie", "session=0123456789abcdef0123456789abcdef"],
  ];
  const head = writeRequestHead("GET", "/lovelace/0?refresh=1", fields);
  const pseudo: readonly Field[] = [
    [":method", "GET"],
    [":scheme", "https"],
    [":authority", "home.example.org"],
    [":path", "/lovelace/0?refresh=1"],
  ];
  const block = encodeFields([...pseudo, ...fields.slice(1)]);
  const decoder = new HpackDecoder(HTTP_HEAD_MAX_BYTES);
  const piece = bytes(1_000);
  const frame = () => readFrameHeader(dataFrames(1, piece, false), 0).byteLength + FRAME_HEADER_BYTES;
  return [
    { name: `HTTP/1: read a head of ${head.length} bytes`, run: () => readRequestHead(head).kind.length },
    {
      name: `HTTP/2: read a head of ${block.length} bytes`,
      run: () => readRequestFields(decoder.decode(block)!).kind.length,
    },
    { name: "HTTP/2: write and read a frame of 1000 bytes", run: frame },
  ];
}

/** The multiplexers without ciphers and sockets: chunks of two sizes, and a visitor's whole stream. */
function sessions(): Step[] {
  return ([["snitun", snitunPair], ["credit", creditPair], ["quic", quicPair]] as const).flatMap(
    ([name, make]) => {
      const pair = make();
      const stream = pair.open();
      pair.settle();
      const chunks = CHUNK_BYTES.map((size): Step => {
        const chunk = bytes(size);
        const run = () => {
          stream.write(chunk);
          pair.settle();
          return pair.receivedBytes;
        };
        return { name: `session, ${name}: a chunk of ${size}`, run };
      });
      // SniTun has no FIN: its streams would wait for the grace to pass.
      if (name === "snitun") return chunks;
      const hello = bytes(500);
      const visit = () => {
        const visitor = pair.open();
        visitor.write(hello);
        visitor.closeWrite();
        pair.settle();
        return pair.receivedBytes;
      };
      return [...chunks, { name: `session, ${name}: a visitor's stream`, run: visit }];
    },
  );
}

/** The steps of the sealed transport with both builds of libsodium. */
export async function sealedSteps(runtime: Runtime): Promise<Step[]> {
  const found: Step[] = [];
  for (const build of ["native", "wasm"] as const) {
    const sodium = await loadSodium(build);
    const { small, chacha, aes } = chooseAeads(sodium, runtime);
    const edgeKeys = makeKeyPair(sodium);
    const unixSeconds = Math.floor(Date.now() / 1000);
    const dial = (): SealedAgentHandshake =>
      new SealedAgentHandshake({ sodium, edgePublicKey: edgeKeys.publicKey, unixSeconds });
    const accept = (): SealedEdgeHandshake =>
      new SealedEdgeHandshake({
        sodium,
        keys: edgeKeys,
        answered: new AnsweredFlights(),
        unixSeconds: () => unixSeconds,
      });
    const { first } = dial();
    const refuse = () => {
      try {
        accept().push(new Uint8Array(1000).fill(1));
      } catch {
        return 1;
      }
      return 2;
    };
    found.push(
      { name: `sealed, ${build}: a first flight`, run: () => dial().first.length },
      { name: `sealed, ${build}: an answer`, run: () => accept().push(first)!.answer.length },
      { name: `sealed, ${build}: a stranger`, run: refuse },
    );
    for (const bulk of aes === undefined ? [chacha] : [chacha, aes]) {
      const ends = { sodium, small, bulk, key: bytes(32) };
      const scratch = new RecordScratch();
      for (const size of CHUNK_BYTES) {
        const plain = bytes(size);
        const sealer = new RecordSealer(ends, scratch, systemRandom);
        const opener = new RecordOpener(ends, scratch);
        opener.maxBytes = 2 * size;
        found.push({
          name: `sealed, ${build}: seal and open a record of ${size}, ${bulk.name}`,
          run: () => opener.openOne(sealer.seal(plain))!.data.length,
        });
      }
    }
  }
  return found;
}

function times(count: number, run: () => number): number {
  let result = 0;
  for (let i = 0; i < count; i++) result ^= run();
  return result;
}

function bytes(length: number): Bytes {
  return new Uint8Array(randomBytes(length));
}
