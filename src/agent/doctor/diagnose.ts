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
import { type ProbeOutcome, probeTls } from "./probe.ts";
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
interface Finding {
  /** What was checked. */
  readonly step: string;
  /** What is wrong; absent if the step passed. */
  readonly fault?: FaultName;
  readonly message: string;
  /** What to do. */
  readonly next?: string;
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
}

/** The same with the agent's report. */
interface Asked extends DiagnoseOptions {
  readonly report: StatusReport | undefined;
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
    findings.push({ step: "DNS", message: `${host} is ${addresses.join(", ")}` });
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
  // Queried after the visit, so that the agent has seen its failure.
  const report = await options.ask?.();
  return [...findings, ...judge({ ...options, report }, outcome, at)];
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

function judge(options: Asked, outcome: ProbeOutcome, at: string): readonly Finding[] {
  if (outcome.kind === "alert") return [judgeAlert(options, outcome.description, at)];
  const online: Finding = { step: "agent", message: "an agent serves the name" };
  if (outcome.kind === "secure") return [online, judgeCertificate(options, outcome)];
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

function judgeAlert(options: Asked, description: number, at: string): Finding {
  const { name, report } = options;
  if (description === AlertDescription.unrecognized_name) return judgeUnknown(options, at);
  if (description === AlertDescription.access_denied) {
    return {
      step: "policy",
      fault: "policy",
      message: `The access list of ${name} refuses this machine`,
      next: "check allow and block of the service, or test from an allowed network",
    };
  }
  const why =
    serviceOf(report, name)?.targets.map(({ target, error }) => `${target}: ${error ?? "in order"}`) ?? [];
  if (description === AlertDescription.internal_error) {
    return {
      step: "endpoint",
      fault: "endpoint_unreachable",
      message: `The agent can't reach ${targetText(options)}${
        why.length === 0 ? "" : ` (${why.join("; ")})`
      }`,
      next: "start the server, or correct the service's target",
    };
  }
  return {
    step: "endpoint",
    fault: "endpoint_protocol",
    message: `The handshake with ${targetText(options)} is refused by TLS alert ${description}`,
    next: "check the TLS settings of the server, or the agent's log",
  };
}

/** The finding for a name that isn't served, by the edge or by the agent. */
function judgeUnknown({ name, report }: Asked, at: string): Finding {
  const nobody = `No agent serves ${name} at the edge ${at}`;
  if (report === undefined) {
    const next = "run doctor where the agent runs, with its --data-dir: it then reports since when, and why";
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
