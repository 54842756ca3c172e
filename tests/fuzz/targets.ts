/**
 * Everything that reads bytes of strangers before it knows them, or of peers whom it needn't believe.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { NodeAead, SodiumAead } from "../../src/crypto/aead.ts";
import { FernetRing } from "../../src/crypto/fernet.ts";
import type { Sodium } from "../../src/crypto/sodium.ts";
import { SallyportError } from "../../src/errors.ts";
import {
  AckRanges,
  type FrameSink,
  FrameWriter,
  readFrames,
  writeFixed,
} from "../../src/wire/curve/curve_frame.ts";
import {
  headBytes,
  packetType,
  readCookie,
  readHello,
  readNumber,
  writeCookie,
  writeHello,
} from "../../src/wire/curve/curve_packet.ts";
import { RecordOpener, RecordScratch, RecordSealer } from "../../src/protocol/records/sealed_records.ts";
import { tryOpenToken } from "../../src/protocol/token/token.ts";
import { TokenReader } from "../../src/protocol/token/token_reader.ts";
import {
  decodeCredit,
  decodeOpen,
  decodeReason,
  encodeOpenBody,
  encodeReasonBody,
} from "../../src/wire/credit/credit_frame.ts";
import { decodeCurveHead, encodeCallerHead, encodeGoingAwayHead } from "../../src/wire/curve/stream_head.ts";
import { canonicalHostname, hostnameFault } from "../../src/wire/hostname.ts";
import { BodyFault, BodyReader } from "../../src/wire/http1/body.ts";
import { readRequestHead, readResponseHead } from "../../src/wire/http1/head.ts";
import { NetworkSet, normalizeIp, parseIp } from "../../src/wire/ip/networks.ts";
import {
  decodeLogin,
  decodeVerdict,
  encodeLogin,
  encodeVerdict,
} from "../../src/wire/login/login_messages.ts";
import { encodeProxyHeader, parseProxyHeader } from "../../src/wire/proxy/proxy_header.ts";
import {
  ANSWER_BYTES,
  decodeAnswer,
  decodeHello,
  encodeAnswer,
  encodeHello,
  HELLO_BYTES,
} from "../../src/wire/sealed/sealed_messages.ts";
import {
  checkHeader,
  decodeCallerExtra,
  decodeCallerPayload,
  encodeCallerPayload,
  HEADER_BYTES,
} from "../../src/wire/snitun/snitun_frame.ts";
import {
  demandFrame,
  encodeDemand,
  encodeGrant,
  parseDemand,
  parseGrant,
  refusalReason,
} from "../../src/wire/snocat/demand_proxy.ts";
import { parseTunnelAddress } from "../../src/wire/snocat/tunnel_address.ts";
import {
  decodeAuthMessage,
  decodeAuthOffer,
  encodeAuthMessage,
  encodeAuthOffer,
} from "../../src/wire/snocat/tunnel_auth.ts";
import {
  decodeAddress,
  decodeGreeting,
  encodeAddress,
  encodeGreeting,
} from "../../src/wire/snocat/tunnel_request.ts";
import {
  encodeHeader,
  encodeText,
  encodeUpgrade,
  parseAnnouncement,
  parseClientAuth,
  parseCount,
  parseHeader,
  parseReceived,
  parseServerHelo,
  parseUpgrade,
  parseWindow,
  PduType,
  printableText,
} from "../../src/wire/sodium/sodium_pdu.ts";
import { decodeAlert } from "../../src/wire/tls/tls_alert.ts";
import { ClientHelloReader } from "../../src/wire/tls/client_hello.ts";
import { readAgentClaim } from "../../src/wire/token/agent_claim.ts";
import { parseJoinLink } from "../../src/wire/token/join_link.ts";
import { parsePublishClaim } from "../../src/wire/token/claims.ts";
import { parseTokenPayload } from "../../src/wire/token/token_payload.ts";
import { clientHello } from "../support/client_hello.ts";
import { TestEdgeSide } from "../support/sealed.ts";
import { seededSource } from "../support/seeded.ts";
import { curveHandshake } from "./curve_handshake.ts";
import { curveSession } from "./curve_session.ts";
import { http2Fields } from "./http2.ts";
import { http2Server } from "./http2_server.ts";
import { joined } from "./mutate.ts";
import { loadMemoizedSodium } from "./memoized_sodium.ts";
import { sessionTargets } from "./sessions.ts";
import type { Target } from "./target.ts";

const utf8 = (text: string): Bytes => new TextEncoder().encode(text);
const textOf = (pieces: readonly Bytes[]): string => new TextDecoder().decode(joined(...pieces));
const NOW_S = 1_800_000_000;

/** A target that looks at whole inputs. */
function whole(name: string, seeds: readonly Bytes[], read: (input: Bytes) => unknown): Target {
  return { name, seeds, whole: true, run: ([input]) => short(read(input!)) };
}

/** A target that reads a growing start of its input again and again, until it needs no more. */
function growing(name: string, seeds: readonly Bytes[], read: (start: Bytes) => unknown): Target {
  return {
    name,
    seeds,
    run(pieces) {
      let start: Bytes = new Uint8Array(0);
      for (const piece of pieces) {
        start = joined(start, piece);
        const outcome = read(start);
        if (outcome !== undefined) return short(outcome);
      }
      return "incomplete";
    },
  };
}

function short(value: unknown): string {
  const text = JSON.stringify(
    value,
    (_name, member) => ArrayBuffer.isView(member) ? `${member.byteLength} bytes` : member,
  );
  return text === undefined ? "nothing" : text.slice(0, 400);
}

/** All targets. */
export async function makeTargets(): Promise<Target[]> {
  const sodium = await loadMemoizedSodium();
  return [
    clientHelloTarget(),
    ...headerTargets(),
    ...tokenTargets(),
    ...frameTargets(),
    ...snocatTargets(),
    ...sodiumTargets(),
    ...httpTargets(),
    http2Fields,
    http2Server(),
    ...textTargets(),
    ...curveTargets(),
    curveHandshake(sodium),
    curveSession(sodium),
    sealedFlight(sodium),
    sealedRecords(sodium),
    ...sessionTargets(),
  ];
}

function clientHelloTarget(): Target {
  return {
    name: "client_hello",
    seeds: ["a.example.org", "xn--bcher-kva.example", "x"].map((name) => new Uint8Array(clientHello(name))),
    run(pieces) {
      const reader = new ClientHelloReader();
      let outcome: unknown;
      for (const piece of pieces) outcome = reader.push(piece);
      return short(outcome);
    },
  };
}

function headerTargets(): Target[] {
  const [v4, v6] = [{ host: "192.0.2.1", port: 1234 }, { host: "2001:db8::1", port: 443 }];
  const plain = encodeProxyHeader(2, v4, v4, { authority: "a.example.org" });
  const summed = joined(plain, Uint8Array.of(3, 0, 4, 0, 0, 0, 0));
  new DataView(summed.buffer).setUint16(14, summed.length - 16);
  return [
    growing("proxy", [
      encodeProxyHeader(1, v4, v4),
      encodeProxyHeader(1),
      encodeProxyHeader(2, v6, v6),
      encodeProxyHeader(2),
      plain,
      summed,
    ], (start) => {
      const outcome = parseProxyHeader(start);
      return outcome.kind === "incomplete" ? undefined : outcome;
    }),
    whole("tls_alert", [Uint8Array.of(21, 3, 3, 0, 2, 2, 80)], (input) => decodeAlert(input) ?? "none"),
    whole("sealed_hello", [
      encodeHello({ version: 1, unixSeconds: NOW_S, paddingBytes: 9, aes: true } as never),
    ], (input) => decodeHello(sized(input, HELLO_BYTES))),
    whole("sealed_answer", [
      encodeAnswer({ publicKey: new Uint8Array(32).fill(5), paddingBytes: 7, aes: false }),
    ], (input) => decodeAnswer(sized(input, ANSWER_BYTES))),
    whole(
      "login",
      [encodeLogin({ token: utf8("gAAAAAtoken"), proof: new Uint8Array(32).fill(1) })],
      decodeLogin,
    ),
    whole(
      "verdict",
      [encodeVerdict(undefined), encodeVerdict("token_expired")],
      (input) => decodeVerdict(input) ?? "welcome",
    ),
  ];
}

function tokenTargets(): Target[] {
  // The same key in every run, so that stored tokens open.
  const ring = new FernetRing([`${"A".repeat(43)}=`]);
  const payload = utf8(JSON.stringify({
    valid: NOW_S + 3600,
    hostname: "a.example.org",
    alias: ["b.example.org"],
    aes_key: "00".repeat(32),
    aes_iv: "11".repeat(16),
    protocol_version: 2,
    sallyport_cipher: "aes-gcm",
    sallyport_publish: ["tcp:22", "tcp"],
  }));
  return [
    {
      name: "token_reader",
      seeds: [utf8(ring.seal(payload, { nowMs: NOW_S * 1000, iv: new Uint8Array(16).fill(8) }))],
      // What follows a token in the same piece spoils it.
      cutsMatter: true,
      run(pieces) {
        const reader = new TokenReader({ startedAtMs: 0, open: (text) => tryOpenToken(ring, text, NOW_S) });
        let opened: unknown;
        for (const piece of pieces) opened = reader.push(piece, 0);
        return short(opened);
      },
    },
    whole("token_payload", [payload], parseTokenPayload),
    whole("token_claims", [
      utf8('{"sallyport_agent":{"id":"x","key":"y"}}'),
      utf8('["tcp:22"]'),
      utf8('"https://master.example.org/join#abc"'),
    ], (input) => {
      let value: unknown;
      try {
        value = JSON.parse(new TextDecoder().decode(input));
      } catch {
        return "no JSON";
      }
      const members = typeof value === "object" && value !== null ? value as Record<string, unknown> : {};
      return [
        parsePublishClaim(value),
        typeof value === "string" ? parseJoinLink(value) : 0,
        readAgentClaim(members),
      ];
    }),
  ];
}

function frameTargets(): Target[] {
  const random = seededSource(3);
  const header = new Uint8Array(HEADER_BYTES);
  return [
    whole("snitun_header", [header, header.slice().fill(1)], (input) => {
      const bytes = new Uint8Array(HEADER_BYTES);
      bytes.set(input.subarray(0, HEADER_BYTES));
      return [0, 1, 2].map((version) => [checkHeader(bytes, version)?.message, decodeCallerExtra(bytes)]);
    }),
    whole("snitun_caller", [
      encodeCallerPayload("192.0.2.1", random),
      encodeCallerPayload("2001:db8::1", random),
    ], (input) => decodeCallerPayload(input) ?? "none"),
    whole(
      "credit_bodies",
      [
        encodeOpenBody({ address: "192.0.2.1", port: 5, serverName: "a", creditBytes: 9 }).slice(),
        encodeReasonBody("closed"),
      ].filter((body) => body.length > 0),
      (input) => {
        const answers: string[] = [];
        for (const decode of [decodeOpen, decodeReason, decodeCredit]) {
          try {
            answers.push(short(decode(input)));
          } catch (error) {
            if (!(error instanceof SallyportError) || error.code === "internal") throw error;
            answers.push(error.message);
          }
        }
        return answers;
      },
    ),
    growing("stream_head", [
      encodeCallerHead({ address: "192.0.2.1", port: 7, serverName: "a.example.org" }),
      encodeCallerHead({ address: "2001:db8::1" }),
      encodeGoingAwayHead(3),
    ], decodeCurveHead),
  ];
}

function snocatTargets(): Target[] {
  return [
    growing(
      "snocat_request",
      [joined(encodeGreeting(), encodeAddress("/proxy-tcp/dns/localhost/tcp/80"))],
      (start) => {
        const size = decodeGreeting(start);
        if (size === undefined) return undefined;
        const found = decodeAddress(start.subarray(size));
        return found === undefined ? undefined : [found.address, parseTunnelAddress(found.address)];
      },
    ),
    {
      name: "snocat_demand",
      seeds: [encodeDemand(22), encodeDemand(), encodeGrant([{ host: "::", port: 22 }] as never)],
      run(pieces) {
        const frame = demandFrame();
        for (const piece of pieces) frame.push(piece);
        const { body } = frame;
        if (body === undefined) return "incomplete";
        return short([
          tried(() => parseDemand(body)),
          tried(() => parseGrant(body)),
          tried(() => refusalReason(body)),
        ]);
      },
    },
    growing("tunnel_auth_offer", [encodeAuthOffer(["token", "secret"])], (start) => decodeAuthOffer(start)),
    growing("tunnel_auth", [encodeAuthMessage(1, utf8("body"))], decodeAuthMessage),
  ];
}

/** The input with the length that its decoder is promised. */
function sized(input: Bytes, length: number): Bytes {
  return joined(input, new Uint8Array(length)).slice(0, length);
}

/** What one of several decoders says, so that all of them see the input. */
function tried(read: () => unknown): unknown {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof SallyportError) || error.code === "internal") throw error;
    return error.message;
  }
}

function sodiumTargets(): Target[] {
  const header = new Uint8Array(12);
  encodeHeader(PduType.Data, 5, header);
  return [
    whole("sodium_pdu", [
      header,
      encodeUpgrade({ totalBytes: 12, aes: true } as never),
      joined(encodeText("name", "the login"), encodeText("secret", "the passphrase")),
    ], (input) => {
      return [
        tried(() => parseHeader(sized(input, 12))),
        tried(() => parseClientAuth(sized(input, 352))),
        tried(() => parseServerHelo(sized(input, 188))),
        tried(() => parseAnnouncement(sized(input, 128))),
        tried(() => printableText(sized(input, 128))),
        tried(() => parseReceived(sized(input, 32))),
        tried(() => parseUpgrade(sized(input, 9))),
        tried(() => parseCount(sized(input, 8))),
        tried(() => parseWindow(sized(input, 4))),
      ];
    }),
  ];
}

/** A head that can't be one is refused with the same status, at whichever of its faults. */
function headOutcome<O extends { readonly kind: string }>(outcome: O): unknown {
  if (outcome.kind === "incomplete") return undefined;
  return outcome.kind === "invalid" ? (outcome as unknown as { status: number }).status : outcome;
}

function httpTargets(): Target[] {
  const chunked = utf8("5;x=1\r\nhello\r\n0\r\na: b\r\n\r\n");
  return [
    growing("http_request_head", [
      utf8("GET /a?b HTTP/1.1\r\nHost: a.example.org\r\nConnection: close\r\n\r\n"),
      utf8("POST http://a/ HTTP/1.1\r\nHost: a:80\r\nTransfer-Encoding: chunked\r\n\r\n"),
      utf8("PUT / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello"),
    ], (start) => {
      const outcome = readRequestHead(start);
      return headOutcome(outcome);
    }),
    growing("http_response_head", [
      utf8("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
      utf8("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"),
    ], (start) => {
      const outcome = readResponseHead(start, "GET");
      return headOutcome(outcome);
    }),
    {
      name: "http_body",
      seeds: [chunked, utf8("ffff\r\n")],
      run(pieces) {
        const reader = new BodyReader({ kind: "chunked" } as never);
        const hash = createHash("sha1");
        try {
          for (const piece of pieces) reader.push(piece, (part) => void hash.update(part));
        } catch (error) {
          if (error instanceof BodyFault) return `fault: ${error.message}`;
          throw error;
        }
        return `${reader.done} ${hash.digest().readUInt16BE()}`;
      },
    },
  ];
}

function textTargets(): Target[] {
  return [
    {
      name: "names_and_networks",
      seeds: ["a.example.org.", "192.0.2.0/24", "2001:db8::/32", "::ffff:192.0.2.1", "[::1]:8443"].map(utf8),
      whole: true,
      run(pieces) {
        const text = textOf(pieces);
        const fault = hostnameFault(text);
        const network = tried(() => new NetworkSet([text]).size ?? "taken");
        return short([
          fault ?? canonicalHostname(text).length,
          parseIp(text)?.length,
          normalizeIp(text)?.length,
          network,
        ]);
      },
    },
  ];
}

function curveTargets(): Target[] {
  const packet = new Uint8Array(1200);
  writeHello(packet, new Uint8Array(32).fill(1));
  const cookie = new Uint8Array(512);
  const key = new Uint8Array(32).fill(2);
  const cookieLength = writeCookie(cookie, {
    connectionKey: key,
    serverKey: key,
    minuteKey: key,
    cookie: key,
  });
  const frames = new FrameWriter(new Uint8Array(300));
  frames.reset(300);
  for (const value of [1, 8, 0, 0, 5, 64, 70_000]) frames.varint(value);
  writeFixed(frames, 0x1a, new Uint8Array(8));
  return [
    whole("curve_packet", [packet, cookie.slice(0, Math.max(4, cookieLength))], (input) => [
      packetType(input),
      readHello(input)?.length,
      Object.keys(readCookie(input) ?? {}),
      input.length > 64 ? readNumber(input, Math.max(8, headBytes(input))) >= 0 : 0,
    ]),
    whole("curve_frames", [frames.written.slice()], (input) => {
      const heard: unknown[] = [];
      const sink = new Proxy({}, {
        get: (_target, name) => (...values: unknown[]) =>
          void (heard.length < 50 && heard.push([name, ...values])),
      }) as FrameSink;
      const outcome = tried(() => readFrames(input, sink, new AckRanges()));
      return [outcome, heard.map((call) => (call as unknown[])[0]).join(" ")];
    }),
  ];
}

function sealedFlight(sodium: Sodium): Target {
  const edge = new TestEdgeSide(sodium);
  return {
    name: "sealed_flight",
    seeds: [1, 2, 3].map((seed) => edge.dial(seededSource(seed)).first.slice()),
    run(pieces) {
      // A memory of its own for each, since no flight is answered twice.
      const fresh = new TestEdgeSide(sodium);
      const handshake = fresh.accept(seededSource(9));
      for (const piece of pieces) {
        const done = handshake.push(piece);
        if (done !== undefined) return `answered with ${done.answer.length} bytes`;
      }
      return "incomplete";
    },
    // What follows a flight in the same piece is against the protocol.
    cutsMatter: true,
  };
}

function sealedRecords(sodium: Sodium): Target {
  const cipher = () => ({
    sodium,
    small: new SodiumAead(sodium),
    bulk: new NodeAead("aes-256-gcm"),
    key: new Uint8Array(32).fill(3),
  });
  const scratch = new RecordScratch();
  const sealer = new RecordSealer(cipher(), scratch, seededSource(4));
  const records = [0, 1, 100, 700].map((size) => sealer.seal(new Uint8Array(size).fill(size)).slice());
  return {
    name: "sealed_records",
    seeds: [joined(...records)],
    run(pieces) {
      const opener = new RecordOpener(cipher(), scratch);
      let got = "";
      try {
        for (const piece of pieces) opener.open(piece, (data) => got += ` ${data.length}`);
      } finally {
        opener.close();
      }
      return got;
    },
  };
}
