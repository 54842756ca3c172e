/**
 * Settings: the sources of an agent's certificates.
 *
 * @module
 */
import { AGENT, optional, setting } from "../setting.ts";
import * as value from "../values.ts";
import { DEFAULT_AUTHORITIES } from "../../agent/acme/certificate_manager.ts";

/** Certificates of services whose TLS is terminated in the agent. */
export const CERTIFICATES = {
  acmeDirectory: setting({
    flag: "acme-directory",
    placeholder: "URL",
    default: [...DEFAULT_AUTHORITIES],
    description:
      "The ACME directory of the authority that gives certificates; with several, the next one is asked where one fails.",
    commands: AGENT,
    schema: value.many(value.httpsUrl, 5),
  }),
  acmeCa: optional({
    flag: "acme-ca",
    placeholder: "FILE",
    description: "The root certificate (PEM) by which a private authority's own HTTPS is trusted.",
    commands: AGENT,
    schema: value.path,
  }),
  acmeEmail: setting({
    flag: "acme-email",
    placeholder: "ADDRESS",
    default: [],
    description: "Whom the authority may write to about certificates. An account needs none.",
    commands: AGENT,
    schema: value.many(value.mail, 5),
  }),
  acmeEabKid: optional({
    flag: "acme-eab-kid",
    placeholder: "ID",
    description: "The customer's key id, for an authority that gives certificates to its customers alone.",
    commands: AGENT,
    schema: value.text,
  }),
  acmeEabKey: optional({
    flag: "acme-eab-key",
    placeholder: "KEY",
    description: "The customer's MAC key that belongs to it, in base64url.",
    commands: AGENT,
    schema: value.base64url,
  }),
  acmeEabKeyFile: optional({
    flag: "acme-eab-key-file",
    placeholder: "FILE",
    description: "File with that key.",
    commands: AGENT,
    fileOf: "acmeEabKey",
    schema: value.path,
  }),
  acmeDnsHook: optional({
    flag: "acme-dns-hook",
    placeholder: "PROGRAM",
    description:
      "Sets DNS records, which certificates for wildcards need: it is run as PROGRAM present|cleanup NAME VALUE.",
    commands: AGENT,
    schema: value.path,
  }),
  acmeDnsDomain: setting({
    flag: "acme-dns-domain",
    placeholder: "DOMAIN",
    default: [],
    description: "For names in these domains, --acme-dns-hook is used too where they are no wildcards.",
    commands: AGENT,
    schema: value.many(value.hostname, 100),
  }),
};
