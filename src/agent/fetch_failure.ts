/**
 * Explains why a request to a server got no response, and what to do about it. Deno and Bun word it differently, and
 * Deno only deep in the error's cause.
 *
 * @module
 */
import { errorMessage } from "../errors.ts";

/** A cause: the text or code that identifies it on either runtime, and the message for it. */
interface Cause {
  readonly looks: RegExp;
  says(url: URL, trust: string): string;
}

const NOT_YET_VALID = /NotValidYet|not valid yet|CERT_NOT_YET_VALID|not yet valid/i;

const CAUSES: readonly Cause[] = [
  {
    looks: /ECONNREFUSED|Connection refused|ConnectionRefused/i,
    says: ({ host }) =>
      `connection refused: nothing listens at ${host}; start it, or correct the host and the port`,
  },
  {
    looks: /ENOTFOUND|EAI_AGAIN|dns error|failed to lookup address/i,
    says: ({ hostname }) => `the name ${hostname} has no address: correct it, or check this machine's DNS`,
  },
  {
    looks: /InvalidContentType|EPROTO|WRONG_VERSION_NUMBER|corrupt message/i,
    says: (url) =>
      `the server doesn't speak TLS there: use ${url.origin.replace("https:", "http:")}, or its HTTPS port`,
  },
  {
    looks: /NotValidForName|ALTNAME|certificate not valid for name|HOSTNAME_MISMATCH/i,
    says: ({ hostname }) => `the server's certificate isn't for ${hostname}: use a name that it covers`,
  },
  {
    looks: NOT_YET_VALID,
    says: () =>
      "the server's certificate isn't valid yet: correct this machine's clock, which seems to be behind",
  },
  {
    looks: /Expired|CERT_HAS_EXPIRED/i,
    says: () =>
      "the server's certificate has expired: renew it, or correct this machine's clock if it is ahead",
  },
  {
    looks:
      /UnknownIssuer|CaUsedAsEndEntity|SELF_SIGNED|self.signed|UNABLE_TO_(VERIFY|GET_ISSUER)|CERT_SIGNATURE|certificate signature|invalid peer certificate/i,
    says: (_, trust) => `this machine doesn't trust the server's certificate: ${trust}`,
  },
  {
    looks: /invalid HTTP version|UnexpectedMessage|HPE_INVALID|Malformed_HTTP/i,
    says: (url) =>
      `the server doesn't answer in HTTP there: use ${
        url.origin.replace("http:", "https:")
      }, or its HTTP port`,
  },
  {
    looks: /TimeoutError|timed out/i,
    says: ({ host }) => `${host} doesn't answer: a firewall may be dropping the packets`,
  },
  {
    looks: /UND_ERR_REDIRECT|redirect/i,
    says: () => "the server answers with a redirect: use the address to which it redirects",
  },
  {
    looks: /Requests to port \d+ are blocked/i,
    says: ({ port }) => `Deno's fetch never connects to port ${port}, as browsers don't: use another port`,
  },
  {
    looks: /ECONNRESET|Connection reset|closed unexpectedly|connection closed|IncompleteMessage|SendRequest/i,
    says: (url) =>
      url.protocol === "http:"
        ? `the server closes the connection: if it speaks HTTPS there, use ${
          url.origin.replace("http:", "https:")
        }`
        : "the server closes the connection",
  },
];

const TRUST = "have it signed by a public authority, or name its authority's file in DENO_CERT (Deno) or " +
  "NODE_EXTRA_CA_CERTS (Bun)";

/**
 * The reason in plain words with the next step; the runtime's message if it isn't recognised. `trust` is the next step
 * for a certificate that this machine doesn't trust.
 */
export function fetchFailure(error: unknown, url: URL, trust = TRUST): string {
  const told = toldBy(error);
  const text = told.join(" ");
  return CAUSES.find(({ looks }) => looks.test(text))?.says(url, trust) ?? told.at(-1) ?? errorMessage(error);
}

/** Whether a request failed because the server's certificate isn't valid yet. */
export function isNotYetValid(error: unknown): boolean {
  return NOT_YET_VALID.test(toldBy(error).join(" "));
}

/** The names, codes and messages of an error and its causes. */
function toldBy(error: unknown): string[] {
  const told: string[] = [];
  for (let at = error; at instanceof Error && told.length < 16; at = at.cause) {
    const { code } = at as { readonly code?: unknown };
    told.push(at.name, typeof code === "string" ? code : "", errorMessage(at));
  }
  return told;
}
