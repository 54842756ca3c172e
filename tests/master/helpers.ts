import assert from "node:assert/strict";
import { FernetRing } from "../../src/crypto/fernet.ts";
import { createMasterApp, type MasterOptions } from "../../src/master/app.ts";
import { adminCredentials } from "../../src/master/credentials.ts";
import { PROBLEM_TITLES, type ProblemDocument, ProblemSchema } from "../../src/master/problem.ts";
import type { Address, Clock } from "../../src/runtime/port.ts";
import { createLogger } from "../../src/telemetry/log.ts";
import { Metrics } from "../../src/telemetry/metrics.ts";

export const ADMIN_KEY = "admin-key.for_tests~1234567890";
export const FERNET_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/** The date that the tests' clock has, in milliseconds. */
export const WALL_MS = 1_900_000_000_500;
export const REMOTE: Address = { host: "192.0.2.7", port: 50_000 };

/** A timer that a test fires by hand. */
export interface HandTimer {
  readonly delayMs: number;
  readonly run: () => void;
  cancelled: boolean;
}

/** A clock that stands still, with the timers that were set on it; `set` hears of each. */
export function handClock(set: (timer: HandTimer) => void = () => {}) {
  const timers: HandTimer[] = [];
  const clock: Clock = {
    nowMs: () => 5_000,
    wallMs: () => WALL_MS,
    after(delayMs, run) {
      const timer: HandTimer = { delayMs, run, cancelled: false };
      timers.push(timer);
      set(timer);
      return { cancel: () => void (timer.cancelled = true) };
    },
    soon: (run) => run(),
  };
  return { clock, timers };
}

/** A master for tests, with what it logs and counts. */
export function testMaster(options: Partial<MasterOptions> = {}) {
  const lines: string[] = [];
  const metrics = new Metrics();
  const { clock, timers } = handClock();
  const ring = new FernetRing([FERNET_KEY]);
  const app = createMasterApp({
    ring,
    credentials: adminCredentials(ADMIN_KEY),
    edgeAddress: { host: "edge.example.net", port: 8443 },
    clock,
    metrics,
    log: createLogger({ level: "debug", format: "json", write: (line) => lines.push(line) }),
    ...options,
  });
  const request = async (path: string, init: RequestInit = {}, remote: Address = REMOTE) =>
    await app.request(path, init, { remote });
  /** POST /v1/tokens with a body that is made JSON, unless it is text already. */
  const post = (body: unknown, headers: Record<string, string> = {}, remote: Address = REMOTE) =>
    request("/v1/tokens", {
      method: "POST",
      headers: { Authorization: `Bearer ${ADMIN_KEY}`, "Content-Type": "application/json", ...headers },
      body: typeof body === "string" ? body : JSON.stringify(body),
    }, remote);
  return { app, ring, metrics, lines, timers, request, post };
}

/** Checks that an answer is a problem of this status, as the schema has it, and returns it. */
export async function problemOf(
  answer: Response,
  status: keyof typeof PROBLEM_TITLES,
): Promise<ProblemDocument> {
  assert.equal(answer.status, status);
  assert.equal(answer.headers.get("content-type"), "application/problem+json");
  assert.equal(answer.headers.get("cache-control"), "no-store");
  const problem = ProblemSchema.strict().parse(await answer.json());
  assert.equal(problem.status, status);
  assert.equal(problem.type, "about:blank");
  assert.equal(problem.title, PROBLEM_TITLES[status]);
  return problem;
}

/** The members at fault. */
export function members(problem: ProblemDocument): string[] {
  return (problem.errors ?? []).map((fault) => fault.member);
}
