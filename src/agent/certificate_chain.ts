/**
 * Judges a server's certificate chain at a given time. The runtimes judge it by the machine's clock alone, which is
 * useless on a board whose clock starts in the past.
 *
 * @module
 */
import { X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import type { X509Certificate as ParsedCertificate } from "@peculiar/x509";
import type { Bytes } from "../bytes/bytes.ts";
import { normalizeIp } from "../wire/ip/networks.ts";
import { coversName } from "../wire/wildcard.ts";

/** A longer chain is refused. */
export const CERTIFICATE_CHAIN_MAX = 5;

const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
const ANY_PURPOSE = "2.5.29.37.0";
const BASIC_CONSTRAINTS = "2.5.29.19";
const KEY_USAGE = "2.5.29.15";
const PURPOSES = "2.5.29.37";
const NAMES = "2.5.29.17";
/** Critical extensions that are heeded here; a certificate with any other is refused (RFC 5280 §4.2). */
const UNDERSTOOD: readonly string[] = [BASIC_CONSTRAINTS, KEY_USAGE, PURPOSES, NAMES];
const WEAK_HASHES: readonly string[] = ["SHA-1", "MD5"];

/** What is judged. */
interface ChainRequest {
  /** What the server presented, in DER; its own certificate is first. */
  readonly chain: readonly Bytes[];
  /** The name or address that was dialled. */
  readonly host: string;
  readonly roots: TrustedRoots;
  /** The time, in milliseconds since 1970. */
  readonly wallMs: number;
}

interface Link {
  readonly certificate: X509Certificate;
  readonly parsed: ParsedCertificate;
}

/** Certificates of trusted authorities, more than a hundred: read and parsed once, when an issuer is first looked for. */
export class TrustedRoots {
  readonly #pems: () => readonly string[];
  #links: readonly Link[] | undefined;

  /** @param pems reads them, in PEM */
  constructor(pems: () => readonly string[]) {
    this.#pems = pems;
  }

  /** The certificates, parsed by `linkOf` at the first call. */
  links(linkOf: (pem: string) => Link): readonly Link[] {
    return this.#links ??= this.#pems().map(linkOf);
  }
}

/** What is wrong with the chain, as the end of a sentence; undefined if nothing is. */
export async function chainFault({ chain, host, roots, wallMs }: ChainRequest): Promise<string | undefined> {
  // The library is slow to load, and most runs never need it.
  const x509 = await import("@peculiar/x509");
  const linkOf = (raw: Bytes | string): Link => ({
    certificate: new X509Certificate(raw),
    parsed: new x509.X509Certificate(raw),
  });
  const isValid = ({ parsed: { notBefore, notAfter } }: Link) =>
    notBefore.getTime() <= wallMs && wallMs <= notAfter.getTime();
  const isUnderstood = ({ parsed }: Link) =>
    parsed.extensions.every(({ critical, type }) => !critical || UNDERSTOOD.includes(type));
  const servesTls = ({ parsed }: Link) => {
    const usages = parsed.getExtension(x509.ExtendedKeyUsageExtension)?.usages.map(String);
    return usages === undefined || usages.includes(SERVER_AUTH) || usages.includes(ANY_PURPOSE);
  };
  const mayIssue = (link: Link, below: number) => {
    const basic = link.parsed.getExtension(x509.BasicConstraintsExtension);
    const usages = link.parsed.getExtension(x509.KeyUsagesExtension)?.usages;
    return basic?.ca === true && (basic.pathLength === undefined || below <= basic.pathLength) &&
      (usages === undefined || (usages & x509.KeyUsageFlags.keyCertSign) !== 0) && servesTls(link);
  };
  const signed = (link: Link, by: Link) => {
    const { hash } = link.parsed.signatureAlgorithm as { readonly hash?: { readonly name: string } };
    return link.parsed.issuer === by.parsed.subject && !WEAK_HASHES.includes(hash?.name ?? "") &&
      link.certificate.verify(by.certificate.publicKey);
  };

  if (chain.length === 0) return "it shows no certificate";
  if (chain.length > CERTIFICATE_CHAIN_MAX) {
    return `its chain has more than ${CERTIFICATE_CHAIN_MAX} certificates`;
  }
  const [own, ...others] = chain.map(linkOf) as [Link, ...Link[]];
  // Deno's checkHost knows no wildcards.
  const names = own.parsed.getExtension(x509.SubjectAlternativeNameExtension)?.names.items ?? [];
  const isFor = names.some(({ type, value }) =>
    isIP(host) === 0
      ? type === "dns" && coversName(value.toLowerCase(), host.toLowerCase())
      : type === "ip" && normalizeIp(value) === normalizeIp(host)
  );
  if (!isFor) return `its certificate isn't for ${host}`;
  if (!servesTls(own) || !isUnderstood(own)) return "its certificate isn't for TLS servers";
  if (!isValid(own)) return `its certificate isn't valid on ${new Date(wallMs).toISOString()}`;

  const usable = (link: Link, below: number) => isValid(link) && isUnderstood(link) && mayIssue(link, below);
  const leadsToRoot = (link: Link, left: readonly Link[], below: number): boolean => {
    return roots.links(linkOf).some((root) => usable(root, below) && signed(link, root)) ||
      left.some((next) =>
        usable(next, below) && signed(link, next) &&
        leadsToRoot(next, left.filter((other) => other !== next), below + 1)
      );
  };
  return leadsToRoot(own, others, 0) ? undefined : "no authority that this machine trusts vouches for it";
}
