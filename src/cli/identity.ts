/**
 * An agent's identity: the one it has enrolled, or a given key.
 *
 * @module
 */
import {
  type AgentIdentity,
  enrolAgent,
  type EnrolOptions,
  type IdentityFile,
  readIdentity,
} from "../agent/identity.ts";
import type { LoadedConfig } from "../config/config.ts";
import { errorMessage, SallyportError } from "../errors.ts";
import { DataDir, IDENTITY_FILE } from "./data_dir.ts";

/** How an agent authenticates to its session master. */
export type AgentAccess =
  | { readonly master: string; readonly credential: string; readonly identity?: undefined }
  | { readonly master: string; readonly identity: AgentIdentity; readonly file: IdentityFile };

/**
 * Enrols with `--join`, or uses the identity of an earlier enrolment, or the key of `--credential`.
 *
 * @param fetch for reaching the session master, for example through a proxy; defaults to the runtime's
 * @throws SallyportError `config_invalid` if there is none of these; and the errors of {@link enrolAgent}
 */
export async function findAccess(
  { config }: Pick<LoadedConfig, "config">,
  fetch?: EnrolOptions["fetch"],
): Promise<AgentAccess> {
  const { join, master, credential, dataDir, insecureMaster } = config;
  if (credential !== undefined) {
    if (join !== undefined) throw invalid("--join and --credential are both set; leave out one of them");
    if (master === undefined) throw invalid("--master is missing (or SALLYPORT_MASTER in the environment)");
    return { master, credential };
  }
  const file = identityFile(dataDir);
  const known = await readIdentity(file);
  if (join !== undefined) {
    try {
      const identity = await enrolAgent(join, {
        file,
        insecure: insecureMaster,
        ...fetch === undefined ? {} : { fetch },
      });
      return { master: identity.master, identity, file };
    } catch (error) {
      const hopeless = error instanceof SallyportError && error.code === "credential_refused";
      if (!hopeless || known === undefined) throw error;
      const why = `${errorMessage(error)}; ${file.place} has the identity ${known.id} of an earlier start: ` +
        "leave out --join to continue with it, or delete the file";
      throw new SallyportError("credential_refused", why, { side: "config", cause: error });
    }
  }
  if (known !== undefined) return { master: known.master, identity: known, file };
  const missing = master === undefined ? "--join" : "--credential";
  throw invalid(
    `${missing} is missing: ` +
      (master === undefined
        ? "a link from `agents add` enrols this agent at a session master; --master with --credential uses a key"
        : "or --credential-file, or SALLYPORT_CREDENTIAL in the environment; or --join with a link from `agents add`"),
  );
}

/** An agent's identity file. */
function identityFile(dataDir: string): IdentityFile {
  const folder = new DataDir(dataDir);
  return {
    place: folder.file(IDENTITY_FILE),
    read: () => folder.read(IDENTITY_FILE),
    write: (text) => folder.replace(IDENTITY_FILE, text),
  };
}

function invalid(why: string): SallyportError {
  return new SallyportError("config_invalid", `Cannot start agent: ${why}`, { side: "config" });
}
