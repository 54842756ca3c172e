/**
 * Errors of the session master on the wire: problem details, RFC 9457, with the invalid members.
 *
 * @module
 */

import { z } from "@hono/zod-openapi";

/** The media type of {@link Problem}s. */
export const PROBLEM_TYPE = "application/problem+json";

/** Error statuses of the master, and their titles (RFC 9110's phrases, as `about:blank` requires). */
export const PROBLEM_TITLES = {
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  408: "Request Timeout",
  409: "Conflict",
  412: "Precondition Failed",
  413: "Content Too Large",
  415: "Unsupported Media Type",
  422: "Unprocessable Content",
  429: "Too Many Requests",
  500: "Internal Server Error",
  503: "Service Unavailable",
} as const;

/** A status that is an error. */
export type ProblemStatus = keyof typeof PROBLEM_TITLES;

/** Maximum number of invalid members listed in one response. */
const FAULTS_MAX = 16;
/** Maximum length of a client-supplied name in a response. */
const NAME_MAX_LENGTH = 64;

/**
 * One fault: the member or header, its position in the body (a JSON pointer, RFC 6901, as a fragment), and what is
 * wrong.
 */
export const FaultSchema = z.object({
  member: z.string().openapi({
    description: "The member of the body, the header, or `body` for the whole of it",
    example: "alias",
  }),
  pointer: z.string().optional().openapi({
    description: "Where in the body: a JSON pointer (RFC 6901) as a fragment",
    example: "#/alias/0",
  }),
  detail: z.string().openapi({ example: "isn't a hostname: it has an empty label" }),
}).openapi("Fault");

/** Problem details, RFC 9457. */
export const ProblemSchema = z.object({
  type: z.string().openapi({
    description: "`about:blank`: the status says what kind of problem it is",
    example: "about:blank",
  }),
  title: z.string().openapi({ description: "The status in words", example: "Unprocessable Content" }),
  status: z.int().min(400).max(599).openapi({ example: 422 }),
  detail: z.string().openapi({
    description: "What is wrong with this request",
    example: "Cannot issue token: alias isn't a hostname: it has an empty label",
  }),
  instance: z.string().optional().openapi({
    description: "With status 500: names this occurrence, in the log as well",
    example: "urn:uuid:4f9d2b1e-6c1f-4f5e-9b0a-2f6f6f1d3c55",
  }),
  request_id: z.string().optional().openapi({
    description: "Names the request, in the log and in `X-Request-Id` as well",
    example: "4f9d2b1e-6c1f-4f5e-9b0a-2f6f6f1d3c55",
  }),
  errors: z.array(FaultSchema).optional().openapi({ description: "What is at fault, one by one" }),
}).openapi("Problem");

/** A fault as defined by {@link FaultSchema}. */
export type Fault = z.infer<typeof FaultSchema>;
/** Problem details as defined by {@link ProblemSchema}. */
export type ProblemDocument = z.infer<typeof ProblemSchema>;

/** Optional parts of a {@link Problem} besides its status and detail. */
interface ProblemDetails {
  readonly errors?: readonly Fault[];
  readonly headers?: Readonly<Record<string, string>>;
  readonly instance?: string;
}

/** An error that ends a request: thrown by handlers, sent as problem details by the app. */
export class Problem extends Error {
  readonly status: ProblemStatus;
  readonly errors: readonly Fault[] | undefined;
  readonly headers: Readonly<Record<string, string>>;
  readonly instance: string | undefined;

  constructor(status: ProblemStatus, detail: string, details: ProblemDetails = {}) {
    super(detail);
    this.name = "Problem";
    this.status = status;
    this.errors = details.errors?.slice(0, FAULTS_MAX);
    this.headers = details.headers ?? {};
    this.instance = details.instance;
  }

  /** The response body; `requestId` identifies the request. */
  document(requestId?: string): ProblemDocument {
    return {
      type: "about:blank",
      title: PROBLEM_TITLES[this.status],
      status: this.status,
      detail: this.message,
      ...(this.instance === undefined ? {} : { instance: this.instance }),
      ...(requestId === undefined ? {} : { request_id: requestId }),
      ...(this.errors === undefined ? {} : { errors: [...this.errors] }),
    };
  }

  /** The complete response. */
  response(requestId?: string): Response {
    return new Response(JSON.stringify(this.document(requestId)), {
      status: this.status,
      headers: { ...this.headers, "Content-Type": PROBLEM_TYPE },
    });
  }
}

function cutName(name: string): string {
  return name.length > NAME_MAX_LENGTH ? `${name.slice(0, NAME_MAX_LENGTH)}…` : name;
}

/** A fault of the body at `path`, the path to the member through objects and lists. */
export function bodyFault(path: readonly PropertyKey[], detail: string): Fault {
  const names = path.map((step) => cutName(String(step)));
  if (names.length === 0) return { member: "body", pointer: "#", detail };
  const steps = names.map((name) =>
    // A lone surrogate can't be written in a URI fragment.
    encodeURIComponent(name.toWellFormed().replaceAll("~", "~0").replaceAll("/", "~1"))
  );
  return { member: names[0], pointer: `#/${steps.join("/")}`, detail };
}

/** The problem of a body that doesn't match its schema, with every invalid member. */
export function schemaProblem(what: string, error: z.ZodError): Problem {
  const faults = error.issues.slice(0, FAULTS_MAX).flatMap((issue) =>
    issue.code === "unrecognized_keys"
      ? issue.keys.map((key) => bodyFault([...issue.path, key], "is not a known member"))
      : [bodyFault(issue.path, issue.message)]
  );
  return unprocessable(what, faults);
}

/** The problem of a body that is well-formed but can't be processed. */
export function unprocessable(what: string, faults: readonly Fault[]): Problem {
  return new Problem(422, `${what}: ${faultText(faults[0])}`, { errors: faults });
}

function faultText(fault: Fault): string {
  return `${fault.member} ${fault.detail}`;
}
