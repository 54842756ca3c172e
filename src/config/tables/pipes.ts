/**
 * Settings: transfers of `pipe send` at the edge.
 *
 * @module
 */
import { EDGES, optional } from "../setting.ts";
import * as value from "../values.ts";

/** Transfers that come in beside sealed agents. */
export const PIPES = {
  pipeFolder: optional({
    flag: "pipe-folder",
    placeholder: "FOLDER",
    description:
      "Transfers of pipe send, and of sodium-tcp's C client, that come to --sealed-listen become files in here. None are taken when absent.",
    commands: EDGES,
    schema: value.path,
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
