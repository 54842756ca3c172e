/**
 * Diagnoses why a name is unreachable: checks each step of a visitor's path in order, up to the first that fails.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { errorMessage } from "../../errors.ts";
import { type Conn, DIAL_TIMEOUT_MS, type Runtime } from "../../runtime/port.ts";
import { AlertDescription } from "../../wire/tls/tls_alert.ts";
import { coversName } from "../../wire/wildcard.ts";
import type { StatusReport } from "../status/report.ts";
import { span } from "../status/text.ts";
import { proxyFaultOf } from "../http/proxy.ts";
import { probeHttp, type ProbeOutcome, probeTls } from "./probe.ts";
import { formatHostPort } from "../../wire/ip/host_port.ts";

/** Possible faults, in the order in which they are checked. */
export type FaultName =
  | "dns"
  | "port"
  | "edge"
  | "agent_offline"
  | "token"
  | "policy"
  | "service_missing"
  | "endpoint_unreachable"
  | "endpoint_protocol"
  | "certificate";

/** One step of the path. */
export interface Finding {
  /** What was checked. */
  readonly step: string;
  /** What is wrong; absent if the step passed. */
  readonly fault?: FaultName;
  readonly message: string;
  /** What to do. */
  readonly next?: string;
}

/** What the session master knows of a name. */
export interface NameRecord {
  readonly agent:
    | {
      readonly name: string;
      readonly state: string;
      readonly enrolled: boolean;
      readonly expires_at: string | null;
    }
    | null;
  readonly session: { readonly edge: string; readonly since: string } | null;
  readonly last_seen_at: string | null;
  readonly last_refused_at: string | null;
  readonly last_refusal: string | null;
}

/** What {@link diagnose} takes. */
interface DiagnoseOptions {
  readonly runtime: Runtime;
  /** The unreachable name, canonical. */
  readonly name: string;
  /** Where visitors connect. `host` defaults to the name's address. */
  readonly port: number;
  readonly host?: string;
  /** Queries the agent's status, if it runs on this machine. */
  readonly ask?: () => StatusReport | undefined | Promise<StatusReport | undefined>;
  /** Queries the session master, if this is its side. */
  readonly askMaster?: () => NameRecord | undefined | Promise<NameRecord | undefined>;
}

/** The same with the agent's report. */
interface Asked extends DiagnoseOptions {
  readonly report: StatusReport | undefined;
  readonly record: NameRecord | undefined;
}

/** An agent's failures that concern its token or its right to one. */
const TOKEN_CODES: ReadonlySet<string> = new Set(
  ["credential_refused", "token_invalid", "token_expired", "unauthorized", "key_reused", "config_invalid"],
);

/** The steps in order; the last one has the fault, if any. */
export async function diagnose(options: DiagnoseOptions): Promise<readonly Finding[]> {
  const { runtime, name, port, host = name } = options;
  const findings: Finding[] = [];
  let addresses: readonly string[];
  try {
    addresses = await runtime.resolve(host);
    findings.push({
      step: "DNS",
      message: host === addresses[0] ? `${host} is an address` : `${host} is ${addresses.join(", ")}`,
    });
  } catch (error) {
    const next = `give ${host} an A or AAAA record with the edge's address`;
    return [{ step: "DNS", fault: "dns", message: errorMessage(error), next }];
  }
  let conn: Conn;
  try {
    conn = await runtime.dial({ host, port, timeoutMs: DIAL_TIMEOUT_MS });
    findings.push({ step: "port", message: `something listens at ${formatHostPort(conn.remote)}` });
  } catch (error) {
    const next = `start the edge, open port ${port} in its firewall, or correct the DNS record`;
    return [...findings, { step: "port", fault: "port", message: errorMessage(error), next }];
  }
  const at = formatHostPort(conn.remote);
  const outcome = await probeTls(runtime, conn, name);
  const isEdge = outcome.kind !== "ended" && outcome.kind !== "not_tls" || await answersAsEdge(options);
  if (!isEdge) {
    const what = outcome.kind === "not_tls"
      ? `it answers ${JSON.stringify(outcome.begins)}`
      : "it ends the connection without a byte";
    const next = `forward port ${port} to the edge: something else listens there`;
    return [...findings, { step: "edge", fault: "edge", message: `No edge listens at ${at}: ${what}`, next }];
  }
  findings.push({ step: "edge", message: `${at} answers in TLS` });
  const page = outcome.kind === "secure" && outcome.isHttp
    ? await probeHttp(runtime, { host, port }, name)
    : undefined;
  // Queried after the visits, so that the agent has seen its failures.
  const report = await options.ask?.();
  const record = report === undefined ? await options.askMaster?.() : undefined;
  return [...findings, ...judge({ ...options, report, record }, { outcome, page }, at)];
}

/** An edge answers an unserved name with the alert unrecognized_name. */
async function answersAsEdge({ runtime, name, port, host = name }: DiagnoseOptions): Promise<boolean> {
  try {
    const conn = await runtime.dial({ host, port, timeoutMs: DIAL_TIMEOUT_MS });
    const outcome = await probeTls(runtime, conn, `${randomBytes(8).toString("hex")}.invalid`);
    return outcome.kind === "alert" && outcome.description === AlertDescription.unrecognized_name;
  } catch {
    return false;
  }
}

/** How far a visitor got. */
interface Visit {
  readonly outcome: ProbeOutcome;
  /** The answer to a request, or the reason that there is none; undefined if none was made. */
  readonly page: Response | string | undefined;
}

function judge(options: Asked, { outcome, page }: Visit, at: string): readonly Finding[] {
  if (outcome.kind === "alert") return [judgeAlert(options, outcome.description, at)];
  const online: Finding = { step: "agent", message: "an agent serves the name" };
  if (outcome.kind === "secure") {
    const endpoint = judgeEndpoint(options, page);
    if (endpoint?.fault !== undefined) return [online, endpoint];
    return [online, ...endpoint === undefined ? [] : [endpoint], judgeCertificate(options, outcome)];
  }
  const target = targetText(options);
  const how = outcome.kind === "not_tls"
    ? `answers ${JSON.stringify(outcome.begins)}, which isn't TLS`
    : outcome.kind === "ended"
    ? "ends the connection without a byte of TLS"
    : `breaks off the handshake: ${outcome.why}`;
  return [online, {
    step: "endpoint",
    fault: "endpoint_protocol",
    message: `${target} ${how}`,
    next: "name a server of plain HTTP as http://HOST:PORT, so that TLS ends in the agent",
  }];
}

/** The finding on the target behind TLS that ends in the agent; undefined if nothing tells. */
function judgeEndpoint(options: Asked, page: Response | string | undefined): Finding | undefined {
  const step = "endpoint";
  if (typeof page === "string") {
    const message = `A request to ${targetText(options)} gets no answer: ${page}`;
    return {
      step,
      fault: "endpoint_unreachable",
      message,
      next: "look at the server, and at the agent's log",
    };
  }
  if (page === undefined) {
    // Bytes of another kind than HTTP: only the agent knows.
    const failed = serviceOf(options.report, options.name)?.targets ?? [];
    return failed.length > 0 && failed.every(({ error }) => error !== undefined)
      ? unreachable(options)
      : undefined;
  }
  switch (proxyFaultOf(page.headers)) {
    case undefined:
      return { step, message: `a request is answered with status ${page.status}` };
    case "http_protocol_error": {
      const message = `The agent reaches ${targetText(options)}, but it doesn't answer in HTTP`;
      const next =
        "name a server that speaks TLS as https://HOST:PORT, one of another protocol as tcp://HOST:PORT";
      return { step, fault: "endpoint_protocol", message, next };
    }
    case "http_response_timeout":
    case "connection_limit_reached": {
      const message = `The agent gets no answer from ${targetText(options)} in time`;
      return {
        step,
        fault: "endpoint_unreachable",
        message,
        next: "look at the server: it is overloaded or hangs",
      };
    }
    default:
      return unreachable(options);
  }
}

function unreachable(options: Asked): Finding {
  const targets = serviceOf(options.report, options.name)?.targets ?? [];
  const why = targets.map(({ target, error = "in order" }) =>
    targets.length === 1 ? error : `${target}: ${error}`
  ).join("; ");
  return {
    step: "endpoint",
    fault: "endpoint_unreachable",
    message: `The agent can't reach ${targetText(options)}${why === "" ? "" : ` (${why})`}`,
    next: "start the server, or correct the service's target",
  };
}

/** The finding for a name whose certificate the agent doesn't have; undefined if it has one, or needs none. */
function missingCertificate({ report, name }: Asked): Finding | undefined {
  const missing = serviceOf(report, name)?.certificates.find(({ names, notAfterMs }) =>
    // Files that can't be read name nobody.
    notAfterMs === undefined && (names.length === 0 || names.some((one) => coversName(one, name)))
  );
  if (missing === undefined) return undefined;
  const why = missing.error === undefined ? " yet" : `: ${missing.error}`;
  return {
    step: "certificate",
    fault: "certificate",
    message: `The agent has no certificate for ${name}${why}`,
    next: "correct that if it doesn't pass by itself: the agent tries again",
  };
}

function judgeAlert(options: Asked, description: number, at: string): Finding {
  const { name } = options;
  if (description === AlertDescription.unrecognized_name) return judgeUnknown(options, at);
  if (description === AlertDescription.access_denied) {
    return {
      step: "policy",
      fault: "policy",
      message: `The access list of ${name} refuses this machine`,
      next: "check allow and block of the service, or test from an allowed network",
    };
  }
  if (description === AlertDescription.internal_error) {
    if (options.report !== undefined) return missingCertificate(options) ?? unreachable(options);
    const finding = unreachable(options);
    return { ...finding, message: `${finding.message}, or has no certificate for the name` };
  }
  return {
    step: "endpoint",
    fault: "endpoint_protocol",
    message: `The handshake with ${targetText(options)} is refused by TLS alert ${description}`,
    next: "check the TLS settings of the server, or the agent's log",
  };
}

/** The finding for a name that isn't served, by the edge or by the agent. */
function judgeUnknown({ name, report, record, runtime }: Asked, at: string): Finding {
  const nobody = `No agent serves ${name} at the edge ${at}`;
  if (report === undefined && record !== undefined) {
    return judgeRecord(name, record, runtime.clock.wallMs());
  }
  if (report === undefined) {
    const next =
      "run doctor where the agent or the session master runs, with its --data-dir: it then reports since when, " +
      "and why";
    return { step: "agent", fault: "agent_offline", message: nobody, next };
  }
  const { session, lastEnd, lastFailure } = report.agent;
  if (session === undefined) {
    const since = lastEnd === undefined
      ? `since its start ${span(report.nowMs - report.startedMs)} ago`
      : `since ${span(report.nowMs - lastEnd.atMs)} ago (${lastEnd.message})`;
    const why = lastFailure === undefined ? "" : `; its last attempt: ${lastFailure.message}`;
    if (lastFailure !== undefined && TOKEN_CODES.has(lastFailure.code)) {
      const next = "correct the agent's credential, or its rights at the session master";
      return {
        step: "token",
        fault: "token",
        message: `The agent gets no token: ${lastFailure.message}`,
        next,
      };
    }
    const next = "check the agent's network and the edge";
    return {
      step: "agent",
      fault: "agent_offline",
      message: `The agent has no session ${since}${why}`,
      next,
    };
  }
  const service = serviceOf(report, name);
  if (service === undefined) {
    const names = report.services.flatMap((one) => one.names).join(", ");
    const next = `add it: --service ${name}=TARGET, or a service in the configuration file`;
    const message = `The agent has no service called ${name}; it has ${names}`;
    return { step: "service", fault: "service_missing", message, next };
  }
  const granted = [session.hostname, ...session.aliases];
  if (!granted.some((one) => coversName(one, name))) {
    const next = "have the session master allow the name, and restart the agent";
    const message = `The agent's token doesn't have ${name}, only ${granted.join(", ")}`;
    return { step: "token", fault: "token", message, next };
  }
  return {
    step: "edge",
    fault: "edge",
    message: `${nobody}: the agent's session is with ${session.edge}`,
    next: "point DNS at that edge, or have the agent dial this one",
  };
}

/** The finding for a name that isn't served, by what the session master knows of it. */
function judgeRecord(name: string, record: NameRecord, nowMs: number): Finding {
  const { agent, session, last_seen_at: seenAt, last_refused_at: refusedAt, last_refusal: refusal } = record;
  const ago = (time: string) => span(nowMs - Date.parse(time));
  const who = agent === null ? "The agent" : `Agent ${agent.name}`;
  if (session !== null) {
    const message = `${who} has been connected to ${session.edge} for ${ago(session.since)}, ` +
      `but has no service called ${name}`;
    const next = `add it at the agent: --service ${name}=TARGET, or a service in its configuration file`;
    return { step: "service", fault: "service_missing", message, next };
  }
  if (agent === null && seenAt === null) {
    const message = `The session master has no agent with the name ${name}`;
    return { step: "token", fault: "token", message, next: `add one: agents add NAME --hostname ${name}` };
  }
  if (agent !== null && agent.state !== "active") {
    const next = `let it in again: agents resume ${agent.name}`;
    return { step: "token", fault: "token", message: `${who} is ${agent.state}`, next };
  }
  if (agent !== null && agent.expires_at !== null && Date.parse(agent.expires_at) <= nowMs) {
    const message = `${who} expired ${ago(agent.expires_at)} ago`;
    const next = `give it more time: agents change ${agent.name} --expires DATE`;
    return { step: "token", fault: "token", message, next };
  }
  if (refusedAt !== null && (seenAt === null || refusedAt > seenAt)) {
    const message = `${who} got no token ${ago(refusedAt)} ago: ${refusal}`;
    const next = "correct its settings, or its rights at the session master";
    return { step: "token", fault: "token", message, next };
  }
  if (agent !== null && !agent.enrolled) {
    const next = "run the line of `agents add` on the agent's machine; `agents rotate` prints a fresh one";
    return { step: "agent", fault: "agent_offline", message: `${who} has never enrolled`, next };
  }
  const since = seenAt === null
    ? "has never connected"
    : `has been offline for ${ago(seenAt)}, since ${seenAt}`;
  const next = "start it, and look at its log and its network; doctor says more where it runs";
  return { step: "agent", fault: "agent_offline", message: `${who} ${since}`, next };
}

function judgeCertificate(
  { name, runtime }: DiagnoseOptions,
  { certificate, trusted }: Extract<ProbeOutcome, { readonly kind: "secure" }>,
): Finding {
  const step = "certificate";
  if (certificate === undefined) {
    return { step, fault: "certificate", message: "The server shows no certificate" };
  }
  const nowMs = runtime.clock.wallMs();
  const [fromMs, toMs] = [Date.parse(certificate.validFrom), Date.parse(certificate.validTo)];
  if (toMs < nowMs) {
    const message = `The certificate of ${name} expired ${span(nowMs - toMs)} ago`;
    return {
      step,
      fault: "certificate",
      message,
      next: "renew it; the agent does so itself with --tls acme",
    };
  }
  if (fromMs > nowMs) {
    const message = `The certificate of ${name} isn't valid for another ${span(fromMs - nowMs)}`;
    return { step, fault: "certificate", message, next: "check the clock of this machine" };
  }
  if (certificate.checkHost(name) === undefined) {
    const message = `The certificate is for ${
      certificate.subjectAltName ?? certificate.subject
    }, not for ${name}`;
    return {
      step,
      fault: "certificate",
      message,
      next: "give the server a certificate for the name, or use --tls acme",
    };
  }
  const trust = trusted ? "" : "; this machine doesn't trust its authority";
  return { step, message: `good for ${name}, for another ${span(toMs - nowMs)}${trust}` };
}

function serviceOf(report: StatusReport | undefined, name: string) {
  return report?.services.find(({ names }) => names.includes(name)) ??
    report?.services.find(({ names }) => names.some((one) => coversName(one, name)));
}

function targetText({ report, name }: Asked): string {
  const targets = serviceOf(report, name)?.targets.map(({ target }) => target) ?? [];
  return targets.length === 0 ? "the service's target" : `the target ${targets.join(", ")}`;
}
