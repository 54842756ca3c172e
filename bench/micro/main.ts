/**
 * Nanoseconds of the small steps, on the runtime that runs this: `deno task bench:micro`, `bun run bench:micro`. Each
 * step runs for a while to be compiled, then in several slices, of which the median counts.
 *
 * @module
 */

import { randomBytes } from "node:crypto";
import process from "node:process";
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
import { currentRuntime } from "../../src/runtime/mod.ts";
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
import { median } from "../machine.ts";
import { creditPair, quicPair, snitunPair } from "./sessions.ts";

const SLICES = 9;
const SLICE_MS = 60;
const CIPHERS: readonly CipherName[] = ["aes-cbc", "aes-gcm", "aes-gcm-siv"];
/** Headers that wait together under load. */
const BATCH = 16;

/** Keeps results alive, so that no step is optimised away. */
let sink = 0;

/** Median nanoseconds of one of the `per` things that a call of `step` does. */
function measure(step: () => number, per = 1): number {
  const slice = (): number => {
    const start = performance.now();
    let calls = 0;
    let elapsed = 0;
    while (elapsed < SLICE_MS) {
      for (let i = 0; i < 32; i++) sink ^= step();
      calls += 32;
      elapsed = performance.now() - start;
    }
    return elapsed * 1e6 / calls / per;
  };
  slice();
  return median(Array.from({ length: SLICES }, slice));
}

function show(what: string, nanoseconds: number): void {
  console.log(`| ${what} | ${nanoseconds < 1000 ? nanoseconds.toFixed(0) : nanoseconds.toPrecision(4)} |`);
}

function frames(): void {
  const channel = bytes(16);
  const extra = bytes(EXTRA_BYTES);
  const header: Bytes = new Uint8Array(HEADER_BYTES);
  let size = 0;
  show(
    "frame: write a header",
    measure(() => {
      writeHeader(header, 0, channel, FrameType.DATA, ++size & 0xffff, extra);
      return header[20]!;
    }),
  );
  writeHeader(header, 0, channel, FrameType.DATA, 65_536, extra);
  show("frame: check a header", measure(() => checkHeader(header, 2) === undefined ? frameSize(header) : 1));
}

function ciphers(): void {
  for (const cipher of CIPHERS) {
    const [key, iv] = [bytes(32), bytes(16)];
    for (const count of [1, BATCH]) {
      const plain = bytes(HEADER_BYTES * count);
      const each = count === 1 ? "" : `, ${count} at once`;
      const sealer = createSealer(cipher, key, iv, "edge");
      show(`${cipher}: seal a header${each}`, measure(() => sealer.seal(plain, HEADER_BYTES)[0]!, count));
    }
    // What is opened must come in order, so sealing is measured along and taken off.
    const sealer = createSealer(cipher, key, iv, "edge");
    const opener = createOpener(cipher, key, iv, "edge");
    const plain = bytes(HEADER_BYTES);
    const both = measure(() => opener.open(sealer.seal(plain, HEADER_BYTES))[0]!);
    const alone = createSealer(cipher, key, iv, "edge");
    const seal = measure(() => alone.seal(plain, HEADER_BYTES)[0]!);
    show(`${cipher}: open a header`, Math.max(0, both - seal));
  }
}

function hellos(): void {
  const hello: Bytes = new Uint8Array(clientHello("home.example.org"));
  const cut = hello.length >> 1;
  const [head, tail] = [hello.slice(0, cut), hello.slice(cut)];
  show(
    `ClientHello of ${hello.length} bytes`,
    measure(() => new ClientHelloReader().push(hello).kind.length),
  );
  show(
    "the same in two segments",
    measure(() => {
      const reader = new ClientHelloReader();
      reader.push(head);
      return reader.push(tail).kind.length;
    }),
  );
}

function tokens(): void {
  const key = fernetKey();
  const now = Date.now() / 1000;
  const encode = (text: string): Bytes => new TextEncoder().encode(text);
  const good = encode(issueToken(key, { hostname: "home.example.org" }).token);
  const forged = encode(issueToken(fernetKey(), { hostname: "home.example.org" }).token);
  const ring = new FernetRing([key]);
  const threeKeys = new FernetRing([fernetKey(), fernetKey(), key]);
  const open = (keys: FernetRing, token: Bytes) => (): number =>
    typeof tryOpenToken(keys, token, now) === "string" ? 1 : 2;
  show("token: open", measure(open(ring, good)));
  show("token: open with the oldest of three keys", measure(open(threeKeys, good)));
  show("token: refuse a forged one", measure(open(ring, forged)));
  show("token: refuse a forged one, three keys", measure(open(threeKeys, forged)));
}

async function sealed(): Promise<void> {
  const runtime = await currentRuntime();
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
    show(`sealed, ${build}: a first flight`, measure(() => dial().first.length));
    show(`sealed, ${build}: an answer`, measure(() => accept().push(first)!.answer.length));
    show(
      `sealed, ${build}: a stranger`,
      measure(() => {
        try {
          accept().push(new Uint8Array(1000).fill(1));
        } catch {
          return 1;
        }
        return 2;
      }),
    );
    for (const bulk of aes === undefined ? [chacha] : [chacha, aes]) {
      const ends = { sodium, small, bulk, key: bytes(32) };
      const scratch = new RecordScratch();
      for (const size of [64, 65_536]) {
        const plain = bytes(size);
        const sealer = new RecordSealer(ends, scratch, systemRandom);
        const opener = new RecordOpener(ends, scratch);
        opener.maxBytes = 2 * size;
        const step = () => opener.openOne(sealer.seal(plain))!.data.length;
        show(`sealed, ${build}: seal and open a record of ${size}, ${bulk.name}`, measure(step));
      }
    }
  }
}

/** What the multiplexers cost without ciphers and sockets: chunks of two sizes, and a visitor's whole stream. */
function sessions(): void {
  for (const [name, make] of [["snitun", snitunPair], ["credit", creditPair], ["quic", quicPair]] as const) {
    const pair = make();
    const stream = pair.open();
    pair.settle();
    for (const size of [64, 65_536]) {
      const chunk = bytes(size);
      const step = () => {
        stream.write(chunk);
        pair.settle();
        return pair.receivedBytes;
      };
      show(`session, ${name}: a chunk of ${size}`, measure(step));
    }
    const visit = () => {
      const visitor = pair.open();
      visitor.write(chunkOfVisit);
      visitor.closeWrite();
      pair.settle();
      return pair.receivedBytes;
    };
    // SniTun has no FIN: its streams would wait for the grace to pass.
    if (name !== "snitun") show(`session, ${name}: a visitor's stream`, measure(visit));
  }
}

const chunkOfVisit = new Uint8Array(500);

function bytes(length: number): Bytes {
  return new Uint8Array(randomBytes(length));
}

/** `sessions` as the argument measures the multiplexers alone. */
const only = process.argv[2];
const runtime = await currentRuntime();
console.log(`| ${runtime.name} ${runtime.version} | ns |\n| --- | ---: |`);
if (only === undefined) {
  frames();
  ciphers();
  hellos();
  tokens();
  await sealed();
}
sessions();
if (sink === Infinity) console.log(sink);
