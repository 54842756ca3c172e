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
      "Transfers of pipe send, and of sodium-tcp's C client, that come to --sealed-listen become files in here. None are taken when absent.",
    commands: EDGES,
    schema: value.path,
  }),
  pipeTransferMax: setting({
    flag: "pipe-transfer-max",
    placeholder: "SIZE",
    default: "10GB",
    description:
      "The longest of such transfers that is taken; a longer one is given up, and nothing of it stays.",
    commands: EDGES,
    schema: value.byteSize,
  }),
  pipeFolderMax: setting({
    flag: "pipe-folder-max",
    placeholder: "SIZE",
    default: "50GB",
    description: "What may lie in --pipe-folder in all, transfers that are under way included.",
    commands: EDGES,
    schema: value.byteSize,
  }),
  pipeKeyFile: optional({
    flag: "pipe-key-file",
    placeholder: "FILE",
    description: "The secret key for such transfers; pipe keygen makes one.",
    commands: EDGES,
    schema: value.path,
  }),
  pipeCredentialsFile: optional({
    flag: "pipe-credentials-file",
    placeholder: "FILE",
    description: "Login and passphrase for such transfers, a line each. " +
      "Default: SALLYPORT_PIPE_LOGIN and SALLYPORT_PIPE_PASSPHRASE.",
    commands: EDGES,
    schema: value.path,
  }),
};
