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
 * ACME_RECORD and ACME_VALUE. It runs without a shell, and is killed after `timeoutMs`.
 */
export function dnsHookProgram(path: string, timeoutMs: number = DNS_HOOK_TIMEOUT_MS): DnsHook {
  return {
    present: (record) => run(path, "present", record, timeoutMs),
    cleanUp: (record) => run(path, "cleanup", record, timeoutMs),
  };
}

function run(
  path: string,
  action: string,
  { domain, name, value }: DnsRecord,
  timeoutMs: number,
): Promise<void> {
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
    const timer = setTimeout(() => {
      // Its end isn't waited for: programs that it has started may keep its output open.
      fail(`it didn't end within ${timeoutMs / 1000} s`);
      child.kill("SIGKILL");
      child.stdout.destroy();
      child.stderr.destroy();
    }, timeoutMs);
    child.on("error", (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      fail(error.code === "ENOENT" ? "there is no such program" : error.message, error);
    });
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      if (code === 0) return resolve();
      const said = output.replace(/\s+/g, " ").trim();
      fail(`it ended with ${code ?? signal}${said === "" ? "" : `: ${said}`}`);
    });
  });
}
