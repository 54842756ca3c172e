/** The bytes of docs/protocols/quic.md. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { SallyportError } from "../../src/errors.ts";
import { CreditReceiver } from "../../src/protocol/mux/credit/receiver.ts";
import {
  CreditFrame,
  decodeCredit,
  decodeOpen,
  decodeReason,
  encodeCreditFrame,
  encodeOpen,
  encodeReason,
} from "../../src/wire/credit/credit_frame.ts";
import { loginProof } from "../../src/protocol/handshake/login_proof.ts";
import {
  decodeLogin,
  decodeVerdict,
  encodeLogin,
  encodeVerdict,
  loginLength,
  verdictCode,
  verdictLength,
} from "../../src/wire/login/login_messages.ts";

interface Vectors {
  readonly login: {
    readonly token: string;
    readonly aes_key: string;
    readonly certificate_fingerprint: string;
    readonly challenge: string;
    readonly bytes: string;
  };
  readonly verdicts: readonly { readonly code?: string; readonly bytes: string }[];
  readonly stream: { readonly bytes: string; readonly frames: readonly string[] };
  readonly offer: { readonly bytes: string; readonly frames: readonly string[] };
  readonly control: { readonly bytes: string; readonly frames: readonly string[] };
}

const VECTORS = JSON.parse(
  await readFile(
    join(dirname(dirname(fileURLToPath(import.meta.url))), "vectors", "quic_transport.json"),
    "utf8",
  ),
) as Vectors;
const utf8 = (text: string) => new TextEncoder().encode(text);

/** Frames as text, whatever pieces they come in. */
function read(pieces: Iterable<Bytes>): string[] {
  const frames: string[] = [];
  let data: number[] | undefined;
  const receiver = new CreditReceiver({
    frame(type, _stream, body) {
      data = undefined;
      if (type === CreditFrame.OPEN) {
        const { address, port, serverName, creditBytes } = decodeOpen(body);
        frames.push(`OPEN ${address} ${port} ${serverName} ${creditBytes}`);
      } else if (type === CreditFrame.CREDIT) frames.push(`CREDIT ${decodeCredit(body)}`);
      else if (type === CreditFrame.FIN) frames.push("FIN");
      else if (type === CreditFrame.OFFER) frames.push("OFFER");
      else if (type === CreditFrame.RESET) frames.push(`RESET ${decodeReason(body)}`);
      else if (type === CreditFrame.GOAWAY) frames.push(`GOAWAY ${decodeReason(body)}`);
      else frames.push(`${type === CreditFrame.PING ? "PING" : "PONG"} ${body.toHex()}`);
    },
    dataFrame() {
      data = [];
      frames.push("DATA ");
      return {} as never;
    },
    data(_stream, piece) {
      data!.push(...piece);
      frames[frames.length - 1] = `DATA ${new TextDecoder().decode(new Uint8Array(data!))}`;
    },
  });
  for (const piece of pieces) receiver.receive(piece);
  return frames;
}

test("the vectors are what is written", () => {
  const { login } = VECTORS;
  const token = utf8(login.token);
  const proof = loginProof(Uint8Array.fromHex(login.aes_key), token, {
    transport: "quic",
    edgeKey: Uint8Array.fromHex(login.certificate_fingerprint),
    channel: Uint8Array.fromHex(login.challenge),
  });
  assert.equal(encodeLogin({ token, proof }).toHex(), login.bytes);
  for (const { code, bytes } of VECTORS.verdicts) assert.equal(encodeVerdict(code).toHex(), bytes);
  const caller = { address: "2001:db8::7", port: 50_000, serverName: "a.test", creditBytes: 131_072 };
  const stream = [
    encodeOpen(0, caller),
    encodeCreditFrame(CreditFrame.DATA, 0, utf8("hello")),
    encodeCreditFrame(CreditFrame.CREDIT, 0, Uint8Array.from([0, 2, 0, 0])),
    encodeCreditFrame(CreditFrame.FIN, 0, new Uint8Array(0)),
    encodeReason(CreditFrame.RESET, 0, "endpoint_unreachable"),
  ];
  assert.equal(stream.map((frame) => frame.toHex()).join(""), VECTORS.stream.bytes);
  assert.equal(encodeCreditFrame(CreditFrame.OFFER, 0, new Uint8Array(0)).toHex(), VECTORS.offer.bytes);
  const id = Uint8Array.from({ length: 16 }, (_, i) => i);
  const control = [
    encodeCreditFrame(CreditFrame.CREDIT, 0, Uint8Array.from([1, 0xf0, 0, 0])),
    encodeCreditFrame(CreditFrame.PING, 0, id),
    encodeCreditFrame(CreditFrame.PONG, 0, id),
    encodeReason(CreditFrame.GOAWAY, 0, "shutdown"),
  ];
  assert.equal(control.map((frame) => frame.toHex()).join(""), VECTORS.control.bytes);
});

test("frames are read whole, byte by byte, and cut at every byte", () => {
  for (const { bytes: hex, frames } of [VECTORS.stream, VECTORS.control, VECTORS.offer]) {
    const bytes = Uint8Array.fromHex(hex);
    assert.deepEqual(read([bytes]), frames);
    assert.deepEqual(read(Array.from(bytes, (byte) => Uint8Array.of(byte))), frames);
    for (let at = 1; at < bytes.length; at++) {
      assert.deepEqual(read([bytes.subarray(0, at), bytes.subarray(at)]), frames);
    }
  }
});

test("login and verdict say how long they are as soon as that can be known", () => {
  const login = Uint8Array.fromHex(VECTORS.login.bytes);
  assert.equal(loginLength(login.subarray(0, 1)), undefined);
  for (let at = 2; at <= login.length; at++) assert.equal(loginLength(login.subarray(0, at)), login.length);
  assert.equal(new TextDecoder().decode(decodeLogin(login).token), VECTORS.login.token);
  for (const wrong of ["0000", "4001", "ffff"]) {
    assert.throws(() => loginLength(Uint8Array.fromHex(wrong)), (error) => {
      return error instanceof SallyportError && error.code === "token_invalid";
    });
  }
  assert.equal(verdictLength(new Uint8Array(0)), undefined);
  for (const { code, bytes } of VECTORS.verdicts) {
    const verdict = Uint8Array.fromHex(bytes);
    assert.equal(verdictLength(verdict), verdict.length);
    assert.equal(decodeVerdict(verdict), code);
  }
  assert.equal(verdictCode("name_taken"), "name_taken");
  assert.equal(verdictCode("no_such_code"), "session_refused");
});
