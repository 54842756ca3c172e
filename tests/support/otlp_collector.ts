/**
 * A collector of OpenTelemetry data for tests: it takes OTLP over HTTP in protobuf, and shows metrics and spans as data.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

/** A number of a metric, or the buckets of a histogram, with its labels. */
export interface CollectedPoint {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  /** A number of a counter or a gauge. */
  readonly value?: number;
  /** The count of a histogram. */
  readonly count?: number;
}

/** A span as it came. */
export interface CollectedSpan {
  readonly name: string;
  readonly traceId: string;
  readonly parentSpanId: string;
  readonly kind: number;
  readonly attributes: Readonly<Record<string, string>>;
}

/** A field of a message in protobuf: a message, text or bytes, or a number. */
type Field = { readonly bytes: Uint8Array } | { readonly number: number };

/** The fields of a message by their numbers (protobuf.dev/programming-guides/encoding). */
function fieldsOf(bytes: Uint8Array): Map<number, Field[]> {
  const found = new Map<number, Field[]>();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const varint = () => {
    let value = 0n;
    for (let shift = 0n;; shift += 7n) {
      const byte = bytes[at++]!;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return Number(BigInt.asIntN(64, value));
    }
  };
  while (at < bytes.length) {
    const key = varint();
    const wire = key & 7;
    let field: Field;
    if (wire === 0) field = { number: varint() };
    else if (wire === 2) {
      const length = varint();
      field = { bytes: bytes.subarray(at, at += length) };
    } else if (wire === 1) {
      field = { bytes: bytes.subarray(at, at += 8) };
    } else field = { number: view.getUint32((at += 4) - 4, true) };
    found.set(key >> 3, [...found.get(key >> 3) ?? [], field]);
  }
  return found;
}

const messages = (fields: Map<number, Field[]>, number: number) =>
  (fields.get(number) ?? []).map((field) => fieldsOf((field as { bytes: Uint8Array }).bytes));
const bytesOf = (fields: Map<number, Field[]>, number: number) =>
  (fields.get(number)?.[0] as { bytes: Uint8Array } | undefined)?.bytes ?? new Uint8Array(0);
const textOf = (fields: Map<number, Field[]>, number: number) =>
  new TextDecoder().decode(bytesOf(fields, number));
const hexOf = (fields: Map<number, Field[]>, number: number) =>
  [...bytesOf(fields, number)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const fixedOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, 8);

/** AnyValue and KeyValue of common.proto. */
function attributesOf(fields: Map<number, Field[]>, number: number): Record<string, string> {
  return Object.fromEntries(
    messages(fields, number).map((pair) => {
      const [value] = messages(pair, 2);
      const int = value?.get(3)?.[0] as { number: number } | undefined;
      return [textOf(pair, 1), int === undefined ? textOf(value ?? new Map(), 1) : String(int.number)];
    }),
  );
}

/** ExportMetricsServiceRequest: resource, scope, metric, and its gauge (5), sum (7) or histogram (9). */
function pointsOf(bytes: Uint8Array): CollectedPoint[] {
  return messages(fieldsOf(bytes), 1).flatMap((resource) => messages(resource, 2))
    .flatMap((scope) => messages(scope, 2)).flatMap((metric) => {
      const name = textOf(metric, 1);
      const numbers = [5, 7].flatMap((kind) => messages(metric, kind)).flatMap((data) => messages(data, 1));
      const histograms = messages(metric, 9).flatMap((data) => messages(data, 1));
      return [
        ...numbers.map((point) => ({
          name,
          attributes: attributesOf(point, 7),
          value: point.has(4)
            ? fixedOf(bytesOf(point, 4)).getFloat64(0, true)
            : Number(fixedOf(bytesOf(point, 6)).getBigInt64(0, true)),
        })),
        ...histograms.map((point) => ({
          name,
          attributes: attributesOf(point, 9),
          count: Number(fixedOf(bytesOf(point, 4)).getBigUint64(0, true)),
        })),
      ];
    });
}

/** ExportTraceServiceRequest. */
function spansOf(bytes: Uint8Array): CollectedSpan[] {
  return messages(fieldsOf(bytes), 1).flatMap((resource) => messages(resource, 2))
    .flatMap((scope) => messages(scope, 2)).map((span) => ({
      name: textOf(span, 5),
      traceId: hexOf(span, 1),
      parentSpanId: hexOf(span, 4),
      kind: (span.get(6)?.[0] as { number: number } | undefined)?.number ?? 0,
      attributes: attributesOf(span, 9),
    }));
}

/** Starts one on a free port of the loopback. */
export async function startCollector() {
  const points: CollectedPoint[] = [];
  const spans: CollectedSpan[] = [];
  const resources: Record<string, string>[] = [];
  const requests: { readonly path: string; readonly type: string; readonly authorization: string }[] = [];
  const status = { now: 200 };
  const server = createServer((request, response) => {
    const parts: Uint8Array[] = [];
    request.on("data", (part: Uint8Array) => parts.push(part));
    request.on("end", () => {
      const body = new Uint8Array(Buffer.concat(parts));
      requests.push({
        path: request.url ?? "",
        type: request.headers["content-type"] ?? "",
        authorization: request.headers.authorization ?? "",
      });
      if (status.now === 200) {
        for (const resource of messages(fieldsOf(body), 1).flatMap((one) => messages(one, 1))) {
          resources.push(attributesOf(resource, 1));
        }
        if (request.url === "/v1/metrics") points.push(...pointsOf(body));
        else spans.push(...spansOf(body));
      }
      response.writeHead(status.now, { "content-type": "application/x-protobuf" }).end();
    });
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    ...{ points, spans, resources, requests, status },
    stop: () =>
      new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
      }),
  };
}
