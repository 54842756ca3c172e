/**
 * Settings: the sources of an agent's certificates.
 *
 * @module
 */
import { AGENT, optional, setting } from "../setting.ts";
import * as value from "../values.ts";
import { DEFAULT_AUTHORITIES } from "../../agent/acme/authorities.ts";

/** Certificates of services whose TLS is terminated in the agent. */
export const CERTIFICATES = {
  acmeDirectory: setting({
    flag: "acme-directory",
    placeholder: "URL",
    default: [...DEFAULT_AUTHORITIES],
    description: "ACME directory of the certificate authority. If it fails, the next one given is used.",
    commands: AGENT,
    schema: value.many(value.httpsUrl, 5),
  }),
  acmeCa: optional({
    flag: "acme-ca",
    placeholder: "FILE",
    description: "Root certificate (PEM) for the HTTPS server of a private authority.",
    commands: AGENT,
    schema: value.path,
  }),
  acmeEmail: setting({
    flag: "acme-email",
    placeholder: "ADDRESS",
    default: [],
    description: "Contact address for the authority. Optional.",
    commands: AGENT,
    schema: value.many(value.mail, 5),
  }),
  acmeEabKid: optional({
    flag: "acme-eab-kid",
    placeholder: "ID",
    description: "Key ID for external account binding, for authorities that require it.",
    commands: AGENT,
    schema: value.text,
  }),
  acmeEabKey: optional({
    flag: "acme-eab-key",
    placeholder: "KEY",
    description: "MAC key for external account binding, in base64url.",
    commands: AGENT,
    schema: value.base64url,
  }),
  acmeEabKeyFile: optional({
    flag: "acme-eab-key-file",
    placeholder: "FILE",
    description: "File with the MAC key for external account binding.",
    commands: AGENT,
    fileOf: "acmeEabKey",
    schema: value.path,
  }),
  acmeDnsHook: optional({
    flag: "acme-dns-hook",
    placeholder: "PROGRAM",
    description:
      "Program that sets DNS records, required for wildcard certificates. Called as PROGRAM present|cleanup NAME " +
      "VALUE.",
    commands: AGENT,
    schema: value.path,
  }),
  acmeDnsDomain: setting({
    flag: "acme-dns-domain",
    placeholder: "DOMAIN",
    default: [],
    description: "Domains in which --acme-dns-hook is used for all names, not only for wildcards.",
    commands: AGENT,
    schema: value.many(value.hostname, 100),
  }),
};
