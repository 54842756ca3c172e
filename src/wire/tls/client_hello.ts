/**
 * Parses the ClientHello for its server name and ALPN only (RFC 8446 §4.1.2 and §5.1, RFC 6066 §3). It may arrive in any
 * number of TCP segments and TLS records; the outcome doesn't depend on their boundaries.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { ByteReader, OutOfBounds } from "../../bytes/reader.ts";
import type { ErrorCode } from "../../errors.ts";
import { canonicalSpelling, HOSTNAME_MAX_LENGTH, hostnameFault, printableName } from "../hostname.ts";
import { AlertDescription } from "./tls_alert.ts";

/** Time limit for identifying a connection, and for a visitor's complete ClientHello; absolute, never extended. */
export const HELLO_DEADLINE_MS = 5_000;
/** Largest ClientHello with its record headers. Real ones stay under 2 KiB; post-quantum and long ALPN lists under 7. */
export const HELLO_MAX_BYTES = 64 * 1024;

/** ALPN of a client that validates a name by TLS-ALPN-01 (RFC 8737 §6.2). */
export const ACME_PROTOCOL = "acme-tls/1";

/** The outcome of reading a ClientHello. */
export type HelloOutcome =
  /** More bytes are needed. */
  | { readonly kind: "incomplete" }
  /**
   * It is complete; `serverName` is canonical, undefined if the client named none. `alpnProtocols` has one character per
   * byte, as RFC 7301 leaves the encoding open.
   */
  | {
    readonly kind: "hello";
    readonly serverName: string | undefined;
    readonly alpnProtocols: readonly string[];
  }
  /** It is refused, with an alert for the client and a reason for the log. */
  | { readonly kind: "refused"; readonly alert: number; readonly reason: ErrorCode; readonly detail: string };

const RECORD_HEADER_BYTES = 5;
const HANDSHAKE_HEADER_BYTES = 4;
/** RFC 8446 §5.1: a plaintext record has at most 2^14 bytes. */
const RECORD_MAX_BYTES = 16_384;
const CONTENT_HANDSHAKE = 22;
const HANDSHAKE_CLIENT_HELLO = 1;
const EXTENSION_SERVER_NAME = 0;
const EXTENSION_ALPN = 16;
const NAME_TYPE_HOST = 0;

/** What browsers and most other clients offer by ALPN: recognized without making a string of each name. */
const USUAL_LISTS = [["h2", "http/1.1"], ["http/1.1"], ["h2"]].map((protocols) => ({
  protocols: Object.freeze(protocols),
  bytes: Uint8Array.from(
    protocols.flatMap((name) => [name.length, ...Array.from(name, (letter) => letter.charCodeAt(0))]),
  ),
}));

const INCOMPLETE: HelloOutcome = { kind: "incomplete" };

/**
 * Accepts bytes as they arrive and keeps them all for forwarding. The work is linear in the input, however it is
 * segmented; at most {@link HELLO_MAX_BYTES} are kept.
 */
export class ClientHelloReader {
  #buffer: Bytes = new Uint8Array(0);
  #length = 0;
  /** Offset of the current record's header, and how far its bytes have been copied. */
  #recordAt = 0;
  /** The handshake message without record headers. */
  #message: Bytes = new Uint8Array(0);
  #messageLength = 0;
  #outcome: HelloOutcome = INCOMPLETE;

  /** Every byte that was pushed; a view. */
  get bytes(): Bytes {
    return this.#buffer.subarray(0, this.#length);
  }

  /** The version that the message names (0x0303 for TLS 1.2 and 1.3); 0 before it has arrived. */
  get version(): number {
    if (this.#messageLength < HANDSHAKE_HEADER_BYTES + 2) return 0;
    return (this.#message[HANDSHAKE_HEADER_BYTES] << 8) | this.#message[HANDSHAKE_HEADER_BYTES + 1];
  }

  /** Accepts the next bytes. Once the outcome is known it is final, and bytes are only kept. */
  push(chunk: Bytes): HelloOutcome {
    if (this.#outcome.kind === "refused") return this.#outcome;
    this.#buffer = append(this.#buffer, this.#length, chunk);
    this.#length += chunk.length;
    if (this.#outcome.kind === "hello") return this.#outcome;
    // Nothing beyond the cap is parsed, so that the outcome doesn't depend on how much arrives at once.
    this.#outcome = this.#advance(Math.min(this.#length, HELLO_MAX_BYTES));
    if (this.#outcome.kind === "incomplete" && this.#length > HELLO_MAX_BYTES) {
      this.#outcome = malformed(`it is longer than ${HELLO_MAX_BYTES} bytes`);
    }
    return this.#outcome;
  }

  /** Copies every complete record in the first `end` bytes, then checks whether the message is complete. */
  #advance(end: number): HelloOutcome {
    while (end > this.#recordAt) {
      const available = end - this.#recordAt;
      const refused = checkRecordHeader(this.#buffer, this.#recordAt, available);
      if (refused !== undefined) return refused;
      if (available < RECORD_HEADER_BYTES) return INCOMPLETE;
      const size = (this.#buffer[this.#recordAt + 3] << 8) | this.#buffer[this.#recordAt + 4];
      const from = this.#recordAt + RECORD_HEADER_BYTES;
      const whole = available >= RECORD_HEADER_BYTES + size;
      // The message type is checked as soon as it arrives, before its record is complete.
      const head = this.#checkMessageType(from, Math.min(size, available - RECORD_HEADER_BYTES));
      if (head !== undefined) return head;
      if (!whole) return INCOMPLETE;
      this.#message = append(this.#message, this.#messageLength, this.#buffer.subarray(from, from + size));
      this.#messageLength += size;
      this.#recordAt = from + size;
      const length = messageLength(this.#message, 0, this.#messageLength);
      if (length !== undefined && this.#messageLength >= length) {
        if (this.#messageLength > length) return malformed("something follows it in its record");
        return parseHello(new ByteReader(this.#message, HANDSHAKE_HEADER_BYTES, length));
      }
    }
    return INCOMPLETE;
  }

  #checkMessageType(from: number, available: number): HelloOutcome | undefined {
    if (this.#messageLength === 0 && available > 0 && this.#buffer[from] !== HANDSHAKE_CLIENT_HELLO) {
      return refusal(
        AlertDescription.unexpected_message,
        `it starts with handshake message ${this.#buffer[from]}, expected ${HANDSHAKE_CLIENT_HELLO}`,
      );
    }
    return undefined;
  }
}

/**
 * The same for bytes with a complete ClientHello in one record, as in nearly all first segments: parsed in place, without
 * a copy. "incomplete" if a {@link ClientHelloReader} has to read them and what follows.
 */
export function readClientHello(bytes: Bytes): HelloOutcome {
  const refused = checkRecordHeader(bytes, 0, bytes.length);
  if (refused !== undefined || bytes.length <= RECORD_HEADER_BYTES + HANDSHAKE_HEADER_BYTES) {
    return refused ?? INCOMPLETE;
  }
  const size = (bytes[3] << 8) | bytes[4];
  if (bytes[RECORD_HEADER_BYTES] !== HANDSHAKE_CLIENT_HELLO || bytes.length < RECORD_HEADER_BYTES + size) {
    return INCOMPLETE;
  }
  if (messageLength(bytes, RECORD_HEADER_BYTES, size) !== size) return INCOMPLETE;
  const from = RECORD_HEADER_BYTES + HANDSHAKE_HEADER_BYTES;
  return parseHello(new ByteReader(bytes, from, RECORD_HEADER_BYTES + size));
}

/** Length of the message that begins at `at`, of which `available` bytes are present. */
function messageLength(bytes: Bytes, at: number, available: number): number | undefined {
  if (available < HANDSHAKE_HEADER_BYTES) return undefined;
  return HANDSHAKE_HEADER_BYTES + ((bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]);
}

function checkRecordHeader(bytes: Bytes, at: number, available: number): HelloOutcome | undefined {
  if (bytes[at] !== CONTENT_HANDSHAKE) {
    return refusal(
      AlertDescription.unexpected_message,
      `a record has type ${bytes[at]}, expected ${CONTENT_HANDSHAKE}`,
    );
  }
  if (available > 1 && bytes[at + 1] !== 3) {
    return malformed(`a record has version ${bytes[at + 1]}.x, expected 3.x`);
  }
  if (available < RECORD_HEADER_BYTES) return undefined;
  const size = (bytes[at + 3] << 8) | bytes[at + 4];
  if (size > RECORD_MAX_BYTES) {
    return refusal(
      AlertDescription.record_overflow,
      `a record has ${size} bytes, at most ${RECORD_MAX_BYTES} are allowed`,
    );
  }
  // RFC 8446 §5.1: handshake records aren't empty.
  return size === 0 ? malformed("a record is empty") : undefined;
}

function parseHello(reader: ByteReader): HelloOutcome {
  try {
    if (reader.u8() !== 3) return malformed("its version isn't 3.x");
    reader.skip(1 + 32);
    const sessionId = reader.u8();
    if (sessionId > 32) return malformed(`its session id has ${sessionId} bytes, at most 32 are allowed`);
    reader.skip(sessionId);
    const cipherSuites = reader.u16();
    if (cipherSuites === 0 || cipherSuites % 2 !== 0) {
      return malformed(`its cipher suites have ${cipherSuites} bytes`);
    }
    reader.skip(cipherSuites);
    const compressions = reader.u8();
    if (compressions === 0) return malformed("it offers no compression method");
    reader.skip(compressions);
    if (reader.left === 0) return { kind: "hello", serverName: undefined, alpnProtocols: [] };
    const extensions = reader.sub(reader.u16());
    if (reader.left > 0) return malformed(`${reader.left} bytes follow its extensions`);
    return parseExtensions(extensions);
  } catch (error) {
    if (error instanceof OutOfBounds) return malformed(`it is cut short: ${error.message}`);
    throw error;
  }
}

function parseExtensions(extensions: ByteReader): HelloOutcome {
  let name: Uint8Array | undefined;
  let named = false;
  let alpnProtocols: readonly string[] | undefined;
  while (extensions.left > 0) {
    const type = extensions.u16();
    const length = extensions.u16();
    if (type !== EXTENSION_SERVER_NAME && type !== EXTENSION_ALPN) {
      extensions.skip(length);
      continue;
    }
    const extension = extensions.sub(length);
    if (type === EXTENSION_SERVER_NAME) {
      if (named) return malformed("it has two server_name extensions");
      named = true;
      const list = extension.sub(extension.u16());
      if (extension.left > 0 || list.left === 0) {
        return malformed("its server_name list has the wrong length");
      }
      while (list.left > 0) {
        const nameType = list.u8();
        const value = list.bytes(list.u16());
        if (nameType !== NAME_TYPE_HOST) continue;
        // RFC 6066 §3: HostName<1..2^16-1>.
        if (value.length === 0) return malformed("its host name is empty");
        if (name !== undefined) return malformed("it has two host names");
        name = value;
      }
    } else {
      if (alpnProtocols !== undefined) return malformed("it has two ALPN extensions");
      alpnProtocols = parseAlpn(extension);
      if (alpnProtocols === undefined) return malformed("its ALPN list isn't one");
    }
  }
  alpnProtocols ??= [];
  if (name === undefined) return { kind: "hello", serverName: undefined, alpnProtocols };
  // A name that is too long is refused by its length, without decoding up to 64 KiB from an unknown peer.
  const isLong = name.length > HOSTNAME_MAX_LENGTH + 1;
  const text = latin1(isLong ? name.subarray(0, HOSTNAME_MAX_LENGTH) : name);
  const fault = isLong
    ? `it has ${name.length} characters, at most ${HOSTNAME_MAX_LENGTH} are allowed`
    : hostnameFault(text);
  if (fault !== undefined) {
    const detail = `its server name "${printableName(text)}" can't be routed: ${fault}`;
    return {
      kind: "refused",
      alert: AlertDescription.unrecognized_name,
      reason: "unrecognized_name",
      detail,
    };
  }
  return { kind: "hello", serverName: canonicalSpelling(text), alpnProtocols };
}

/** RFC 7301 §3.1: a list of at least one name, none of them empty; undefined if invalid. */
function parseAlpn(extension: ByteReader): readonly string[] | undefined {
  const list = extension.sub(extension.u16());
  if (extension.left > 0 || list.left === 0) return undefined;
  for (const usual of USUAL_LISTS) if (list.is(usual.bytes)) return usual.protocols;
  const protocols: string[] = [];
  while (list.left > 0) {
    const length = list.u8();
    if (length === 0) return undefined;
    protocols.push(latin1(list.bytes(length)));
  }
  return protocols;
}

/** Bytes as text, one character each. */
function latin1(bytes: Uint8Array): string {
  return String.fromCharCode.apply(undefined, bytes as unknown as number[]);
}

function malformed(detail: string): HelloOutcome {
  return refusal(AlertDescription.decode_error, detail);
}

function refusal(alert: number, what: string): HelloOutcome {
  return {
    kind: "refused",
    alert,
    reason: "hello_invalid",
    detail: `its ClientHello can't be read: ${what}`,
  };
}

/** Appends to a buffer that doubles when full. */
function append(buffer: Bytes, length: number, chunk: Uint8Array): Bytes {
  let target = buffer;
  if (length + chunk.length > buffer.length) {
    target = new Uint8Array(Math.max(2 * buffer.length, length + chunk.length));
    target.set(buffer.subarray(0, length));
  }
  target.set(chunk, length);
  return target;
}
