/**
 * A status report as human-readable text.
 *
 * @module
 */
import { DAY_MS } from "../../calendar.ts";
import type { StatusReport } from "./report.ts";

/** The report as lines of text. */
export function statusText(report: StatusReport): string[] {
  const { agent, services, published, nowMs } = report;
  const ago = (atMs: number) => `${span(nowMs - atMs)} ago`;
  const lines = [
    `Sallyport ${report.version} on ${report.runtime}, process ${report.pid}, started ${
      ago(report.startedMs)
    }`,
    `session master  ${report.master}`,
  ];
  const { session, lastEnd, lastFailure } = agent;
  if (session === undefined) {
    lines.push(
      `session         none${lastEnd === undefined ? "" : ` since ${ago(lastEnd.atMs)}: ${lastEnd.message}`}`,
    );
  } else {
    const rtt = session.rttMs === undefined ? "" : `, round trip ${Math.round(session.rttMs)} ms`;
    lines.push(
      `session         ${session.transport} to ${session.edge} for ${span(nowMs - session.sinceMs)}${rtt}`,
    );
    lines.push(
      `                ${visitors(session.streams)} now, ${bytes(session.bytesReceived)} in, ${
        bytes(session.bytesSent)
      } out`,
    );
  }
  for (const other of agent.others ?? []) {
    lines.push(
      `                ${other.transport} to ${other.edge} for ${span(nowMs - other.sinceMs)}, ${
        visitors(other.streams)
      }`,
    );
  }
  const isOld = session !== undefined && lastFailure !== undefined && lastFailure.atMs < session.sinceMs;
  if (lastFailure !== undefined && !isOld) {
    lines.push(`last failure    ${ago(lastFailure.atMs)}: ${lastFailure.message}`);
  }
  for (const address of published) lines.push(`public port     ${address ?? "not open"}`);
  for (const service of services) {
    const [name = "", ...aliases] = service.names;
    lines.push("", `${name}${aliases.length === 0 ? "" : ` (${aliases.join(", ")})`}`);
    for (const { target, up, error } of service.targets) {
      // A target counts as up again 10 s after it failed a visitor.
      const state = up ? error === undefined ? "up" : "up, but the last attempt failed" : "DOWN";
      lines.push(`  target        ${target}  ${state}${error === undefined ? "" : `: ${error}`}`);
    }
    lines.push(`  TLS           ${service.tls}`);
    for (const found of service.certificates) {
      const expiry = found.notAfterMs === undefined
        ? "none yet"
        : found.notAfterMs < nowMs
        ? `EXPIRED ${ago(found.notAfterMs)}`
        : `expires in ${span(found.notAfterMs - nowMs)}`;
      const issuer = found.issuer === undefined ? "" : `, by ${found.issuer}`;
      const why = found.error === undefined ? "" : `: ${found.error}`;
      const names = found.names.length === 0 ? "" : `${found.names.join(", ")}: `;
      lines.push(`  certificate   ${names}${expiry}${issuer}${why}`);
    }
    lines.push(
      `  visitors      ${service.visitors} now, ${service.visitorsTotal} in all, ${
        bytes(service.bytesIn)
      } in, ${bytes(service.bytesOut)} out`,
    );
    for (const { atMs, message } of service.errors) lines.push(`  error         ${ago(atMs)}: ${message}`);
  }
  return lines;
}

/** A duration in its two largest units. */
export function span(ms: number): string {
  const units = [["d", DAY_MS], ["h", 3_600_000], ["min", 60_000], ["s", 1_000]] as const;
  const first = units.findIndex(([, unitMs]) => ms >= unitMs);
  if (first < 0) return "0 s";
  const [unit, unitMs] = units[first]!;
  const whole = Math.floor(ms / unitMs);
  const [smaller, smallerMs] = units[first + 1] ?? [undefined, 1];
  const rest = Math.floor((ms - whole * unitMs) / smallerMs);
  return `${whole} ${unit}${smaller === undefined || rest === 0 ? "" : ` ${rest} ${smaller}`}`;
}

function bytes(count: number): string {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let [value, unit] = [count, 0];
  while (value >= 1024 && unit < units.length - 1) [value, unit] = [value / 1024, unit + 1];
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

function visitors(count: number): string {
  return `${count} ${count === 1 ? "visitor" : "visitors"}`;
}
