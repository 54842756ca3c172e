/**
 * HTTPS client for an authority, which may have a private root certificate.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { request as httpsRequest } from "node:https";
import tls from "node:tls";
import { errorMessage, SallyportError } from "../../errors.ts";
import { fetchFailure } from "../fetch_failure.ts";
import type { Fetch } from "../../runtime/port.ts";
import { type LateMachine, masterTimeFetch, needsOwnConnections, trustedPems } from "../late_clock.ts";
import { VERSION } from "../../version.ts";

/** An authority's response must be complete within this time. */
export const AUTHORITY_TIMEOUT_MS = 30_000;
/** Largest response of an authority. */
export const AUTHORITY_ANSWER_MAX_BYTES = 1024 * 1024;

/** A request to an authority. */
interface AuthorityRequest {
  readonly method: "GET" | "HEAD" | "POST";
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly signal?: AbortSignal;
}

/** Its response. */
export interface AuthorityAnswer {
  readonly status: number;
  /** Keyed by lower-case name. */
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly text: string;
  /** The `Link` fields. */
  readonly links: readonly string[];
}

/** Sends a request. Rejects with `authority_unreachable`. */
export type AuthorityFetch = (request: AuthorityRequest) => Promise<AuthorityAnswer>;

/** Deno's node:https words a certificate that isn't valid yet in the same way. */
const TRUST = "name a private authority's root certificate with --acme-ca, or correct this machine's clock";

/**
 * Creates a client; `caPem` is trusted in addition to the public authorities. As long as the machine's clock is behind,
 * certificates are judged at the session master's time; where the machine has a proxy, requests go through it.
 */
export function authorityFetch(caPem?: string, late?: LateMachine): AuthorityFetch {
  const ca = caPem === undefined ? undefined : [...publicRoots(), caPem];
  if (late === undefined) return (request) => send(request, ca);
  const fetch = masterTimeFetch(late, () => [...trustedPems(), ...caPem === undefined ? [] : [caPem]]);
  return (request) => needsOwnConnections(late) ? sendOver(fetch, request) : send(request, ca);
}

async function sendOver(
  fetch: Fetch,
  { method, url, headers, body, signal }: AuthorityRequest,
): Promise<AuthorityAnswer> {
  const limit = AbortSignal.timeout(AUTHORITY_TIMEOUT_MS);
  const request = new Request(url, {
    method,
    headers: { "user-agent": `sallyport/${VERSION}`, ...headers },
    signal: signal === undefined ? limit : AbortSignal.any([signal, limit]),
    ...body === undefined ? {} : { body },
  });
  try {
    const answer = await fetch(request);
    return {
      status: answer.status,
      headers: Object.fromEntries(answer.headers),
      text: await answer.text(),
      links: linksOf(answer.headers.get("link")),
    };
  } catch (error) {
    throw unreachable(url, errorMessage(error), error);
  }
}

function linksOf(field: string | null | undefined): string[] {
  return (field ?? "").split(/,\s*(?=<)/).filter((link) => link !== "");
}

function unreachable(url: string, why: string, cause?: unknown): SallyportError {
  const message = `Cannot reach certificate authority ${new URL(url).origin}: ${why}`;
  return new SallyportError("authority_unreachable", message, { side: "network", retryable: true, cause });
}

/** Bun trusts only the roots it is given. Deno also trusts its own, and may not be permitted to list them. */
function publicRoots(): readonly string[] {
  try {
    return [...tls.rootCertificates];
  } catch {
    return [];
  }
}

function send(
  { method, url, headers, body, signal }: AuthorityRequest,
  ca: string[] | undefined,
): Promise<AuthorityAnswer> {
  return new Promise((resolve, reject) => {
    const fail = (why: string, cause?: unknown) => reject(unreachable(url, why, cause));
    if (!url.startsWith("https://")) return fail("its address doesn't start with https://");
    const request = httpsRequest(url, {
      method,
      headers: {
        "user-agent": `sallyport/${VERSION}`,
        ...headers,
        ...body === undefined ? {} : { "content-length": String(Buffer.byteLength(body)) },
      },
      agent: false,
      signal,
      ...ca === undefined ? {} : { ca },
    }, (response) => {
      const parts: Buffer[] = [];
      let byteLength = 0;
      response.on("data", (part: Buffer) => {
        parts.push(part);
        byteLength += part.length;
        if (byteLength > AUTHORITY_ANSWER_MAX_BYTES) {
          request.destroy();
          fail(`its answer is longer than ${AUTHORITY_ANSWER_MAX_BYTES} bytes`);
        }
      });
      response.on("error", (error) => fail(errorMessage(error), error));
      response.on("end", () => {
        clearTimeout(timer);
        const plain: Record<string, string | undefined> = {};
        for (const [name, value] of Object.entries(response.headers)) {
          plain[name.toLowerCase()] = Array.isArray(value) ? value.join(", ") : value;
        }
        resolve({
          status: response.statusCode ?? 0,
          headers: plain,
          text: Buffer.concat(parts).toString("utf8"),
          links: linksOf(plain["link"]),
        });
      });
    });
    const timer = setTimeout(() => {
      request.destroy();
      fail(`no whole answer in ${AUTHORITY_TIMEOUT_MS / 1000} s`);
    }, AUTHORITY_TIMEOUT_MS);
    request.on("error", (error) => {
      clearTimeout(timer);
      fail(fetchFailure(error, new URL(url), TRUST), error);
    });
    request.end(body);
  });
}
