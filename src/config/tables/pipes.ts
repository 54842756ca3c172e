/**
 * Settings: transfers of `pipe send` at the edge.
 *
 * @module
 */
import { EDGES, optional, setting } from "../setting.ts";
import * as value from "../values.ts";

/** Transfers received on the sealed agents' ports. */
export const PIPES = {
  pipeFolder: optional({
    flag: "pipe-folder",
    placeholder: "FOLDER",
    description:
      "Folder for files received at --sealed-listen from pipe send and from sodium-tcp's C client. Default: " +
      "transfers are refused.",
    commands: EDGES,
    schema: value.path,
  }),
  pipeTransferMax: setting({
    flag: "pipe-transfer-max",
    placeholder: "SIZE",
    default: "10GB",
    description: "Maximum size of a transfer. A larger one is discarded.",
    commands: EDGES,
    schema: value.byteSize,
  }),
  pipeFolderMax: setting({
    flag: "pipe-folder-max",
    placeholder: "SIZE",
    default: "50GB",
    description: "Maximum size of --pipe-folder, including transfers in progress.",
    commands: EDGES,
    schema: value.byteSize,
  }),
  pipeKeyFile: optional({
    flag: "pipe-key-file",
    placeholder: "FILE",
    description: "File with the secret key for received transfers, as made by pipe keygen.",
    commands: EDGES,
    schema: value.path,
  }),
  pipeCredentialsFile: optional({
    flag: "pipe-credentials-file",
    placeholder: "FILE",
    description:
      "File with login and passphrase for received transfers, one per line. Default: SALLYPORT_PIPE_LOGIN and " +
      "SALLYPORT_PIPE_PASSPHRASE.",
    commands: EDGES,
    schema: value.path,
  }),
};
