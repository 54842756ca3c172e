/**
 * `cert`: makes certificates for QUIC, as `snocat server` needs one.
 *
 * @module
 */
import { mkdir, open, readFile, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { type Identity, makeAuthority, makeCertificate } from "../crypto/certificate.ts";
import { errorMessage, SallyportError } from "../errors.ts";
import { addExamples, type CliContext, type Command, several } from "./command.ts";

/** The ending that snocat-cli's `cert` uses. */
const CERTIFICATE_ENDING = ".pub.pem";
const KEY_ENDING = ".priv.pem";
const DEFAULT_NAME = "localhost";
const DEFAULT_DAYS = 365;
const DAYS_MAX = 36_500;

interface CertFlags {
  readonly san?: readonly string[];
  readonly days?: string;
  readonly ca?: boolean;
  readonly authority?: string;
}

/** Adds the command. */
export function addCert(program: Command, { io }: CliContext): void {
  const command = program.command("cert").argument("<path>", "path of both files, without extensions")
    .description(
      "Make a certificate and its key, PATH.pub.pem and PATH.priv.pem, for `snocat server`.\n" +
        "The certificate signs itself and serves clients as their authority, unless --authority names another.",
    );
  command.option(
    "--san <name>",
    `a name or an IP address that the certificate covers (several; default: ${DEFAULT_NAME})`,
    several,
  );
  command.option("--days <number>", `validity (default: ${DEFAULT_DAYS})`);
  command.option("--ca", "make an authority, which signs the certificates of servers");
  command.option("--authority <path>", "sign it with the authority at this path (without extensions)");
  addExamples(command, io, [
    { what: "for one server", args: "cert data/edge --san edge.example.org" },
    { what: "an authority", args: "cert data/ca --ca" },
    {
      what: "a certificate that it signs",
      args: "cert data/edge --san edge.example.org --san 192.0.2.7 --authority data/ca",
    },
  ]);
  command.action(async (path: string) => {
    const flags = command.opts<CertFlags>();
    await writeIdentity(path, await make(flags));
    io.out(`Certificate  ${path}${CERTIFICATE_ENDING}`);
    io.out(`Secret key   ${path}${KEY_ENDING}`);
  });
}

async function make({ san, days, ca, authority }: CertFlags): Promise<Identity> {
  const validDays = days === undefined ? DEFAULT_DAYS : Number(days);
  if (!Number.isInteger(validDays) || validDays < 1 || validDays > DAYS_MAX) {
    throw wrong(`Cannot use --days ${JSON.stringify(days)}: needs a number from 1 to ${DAYS_MAX}`);
  }
  const wallMs = Date.now();
  if (ca) {
    if (san !== undefined || authority !== undefined) {
      throw wrong(
        "Cannot make an authority with --san or --authority: it isn't a server's certificate, and signs itself",
      );
    }
    return await makeAuthority({ commonName: "Sallyport authority", validDays, wallMs });
  }
  const names = san ?? [DEFAULT_NAME];
  const signer = authority === undefined ? undefined : await readIdentity(authority);
  return await makeCertificate({
    commonName: names[0] as string,
    names,
    validDays,
    wallMs,
    authority: signer,
  });
}

async function readIdentity(path: string): Promise<Identity> {
  try {
    return {
      certificatePem: await readFile(`${path}${CERTIFICATE_ENDING}`, "utf8"),
      keyPem: await readFile(`${path}${KEY_ENDING}`, "utf8"),
    };
  } catch (error) {
    throw wrong(`Cannot use --authority: ${errorMessage(error)}; cert --ca makes one`);
  }
}

/** Writes both files or none, and overwrites nothing. */
async function writeIdentity(path: string, { certificatePem, keyPem }: Identity): Promise<void> {
  const key = `${path}${KEY_ENDING}`;
  await writeNew(key, keyPem, 0o600);
  try {
    await writeNew(`${path}${CERTIFICATE_ENDING}`, certificatePem, 0o644);
  } catch (error) {
    await rm(key, { force: true });
    throw error;
  }
}

async function writeNew(path: string, text: string, mode: number): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const file = await open(path, "wx", mode);
    try {
      await file.writeFile(text);
    } finally {
      await file.close();
    }
  } catch (error) {
    throw wrong(`Cannot write ${path}: ${errorMessage(error)}`);
  }
}

function wrong(message: string): SallyportError {
  return new SallyportError("config_invalid", message, { side: "config" });
}
