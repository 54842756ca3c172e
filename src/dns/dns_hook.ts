/**
 * DNS-01 through an operator's program that sets and removes a TXT record, however the zone is managed.
 *
 * @module
 */
import { spawn } from "node:child_process";
import process from "node:process";
import { SallyportError } from "../errors.ts";

/** Within this time the program must set the record and make sure that the zone's servers answer it. */
export const DNS_HOOK_TIMEOUT_MS = 300_000;
/** Length of its output shown when it fails. */
const OUTPUT_MAX_CHARACTERS = 500;

/** Sets and removes TXT records. An agent has it as a program, or from its session master. */
export interface DnsHook {
  /** Resolves when the record is visible. */
  present(record: DnsRecord): Promise<void>;
  cleanUp(record: DnsRecord): Promise<void>;
}

/** A TXT record. */
export interface DnsRecord {
  /** The name that the certificate is for, without `*.`. */
  readonly domain: string;
  /** The record's name: `_acme-challenge.` and the domain. */
  readonly name: string;
  readonly value: string;
}

/**
 * Runs `PROGRAM present|cleanup NAME VALUE`, with the same in the environment variables ACME_ACTION, ACME_DOMAIN,
 * ACME_RECORD and ACME_VALUE. It runs without a shell.
 */
export function dnsHookProgram(path: string): DnsHook {
  return {
    present: (record) => run(path, "present", record),
    cleanUp: (record) => run(path, "cleanup", record),
  };
}

function run(path: string, action: string, { domain, name, value }: DnsRecord): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (why: string, cause?: unknown) => {
      const message = `Cannot set DNS record ${name} by ${path} ${action}: ${why}`;
      reject(
        new SallyportError("certificate_unavailable", message, { side: "config", retryable: true, cause }),
      );
    };
    const child = spawn(path, [action, name, value], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ACME_ACTION: action, ACME_DOMAIN: domain, ACME_RECORD: name, ACME_VALUE: value },
    });
    let output = "";
    const take = (part: unknown) => output = (output + String(part)).slice(-OUTPUT_MAX_CHARACTERS);
    child.stdout.on("data", take);
    child.stderr.on("data", take);
    const timer = setTimeout(() => child.kill("SIGKILL"), DNS_HOOK_TIMEOUT_MS);
    child.on("error", (error) => {
      clearTimeout(timer);
      fail(error.message, error);
    });
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      if (code === 0) return resolve();
      const said = output.replace(/\s+/g, " ").trim();
      fail(`it ended with ${code ?? signal}${said === "" ? "" : `: ${said}`}`);
    });
  });
}
