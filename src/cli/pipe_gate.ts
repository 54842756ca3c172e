/**
 * Sets up an edge to receive transfers of `pipe send`, and of the C programs, on the sealed agents' ports.
 *
 * @module
 */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { Config } from "../config/config.ts";
import { chooseAeads } from "../crypto/aead.ts";
import type { Sodium } from "../crypto/sodium.ts";
import { SallyportError } from "../errors.ts";
import { FolderSpace } from "../pipe/folder_space.ts";
import { PipeGate } from "../pipe/gate.ts";
import { SessionLog } from "../pipe/session_log.ts";
import { fileSink } from "../pipe/sink.ts";
import type { Base } from "./parts.ts";
import { formatKey, readCredentials, readKeyPair } from "./pipe_keys.ts";

/** A receiver of transfers, and its public key in the form that `pipe send` takes. */
export interface PipePart {
  readonly gate: PipeGate;
  readonly folder: string;
  readonly publicKey: string;
}

/** Creates the receiver if a folder is configured for it. Rejects with `config_invalid` for unusable settings. */
export async function findPipes(
  base: Base,
  config: Pick<
    Config,
    | "pipeFolder"
    | "pipeTransferMax"
    | "pipeFolderMax"
    | "pipeKeyFile"
    | "pipeCredentialsFile"
    | "sealedListen"
  >,
  sodium: Sodium | undefined,
): Promise<PipePart | undefined> {
  const { pipeFolder: folder, pipeKeyFile, pipeCredentialsFile } = config;
  if (folder === undefined) return undefined;
  if (config.sealedListen.length === 0 || sodium === undefined) {
    throw wrong("--pipe-folder needs --sealed-listen, whose port also receives transfers");
  }
  if (pipeKeyFile === undefined) {
    throw wrong("--pipe-folder needs --pipe-key-file; sallyport pipe keygen makes one");
  }
  if (!await stat(folder).then((found) => found.isDirectory(), () => false)) {
    throw wrong(`--pipe-folder ${folder} isn't a folder`);
  }
  const { io, log, metrics, runtime } = base;
  const { clock } = runtime;
  const keys = await readKeyPair(sodium, pipeKeyFile, io);
  const credentials = await readCredentials(pipeCredentialsFile, io);
  const sessions = new SessionLog(`${pipeKeyFile}.sessions`, sodium.randomBytes);
  const space = new FolderSpace(folder, config.pipeFolderMax);
  const gate = new PipeGate({
    ...credentials,
    ...{ sodium, aeads: chooseAeads(sodium, runtime), keys, clock },
    maxBytes: config.pipeTransferMax,
    claim: (id) => sessions.claim(id),
    sink: (host) => {
      const mark = new Uint8Array(8);
      sodium.randomBytes(mark);
      const at = new Date(clock.wallMs()).toISOString().replace(/[-:]|\.\d+/g, "");
      const name = `${at}-${formatKey(mark)}`;
      const file = { path: join(folder, name), force: false, clock, suffix: formatKey(mark.subarray(0, 6)) };
      return space.sink(name, host, () => fileSink(file, host));
    },
    received: ({ host: peer }, name, { bytes, certain }) => {
      metrics.pipeTransfer("received");
      log.info({ peer, bytes, certain, file: name }, "Received a transfer");
    },
    failed: ({ host: peer }, error) => {
      metrics.pipeTransfer(error.code === "limit_exceeded" ? "too_large" : "failed");
      log.warn({ peer, reason: error.code }, `Cannot receive transfer: ${error.message}`);
    },
    refused: ({ host: peer }, error) => {
      metrics.pipeTransfer("refused");
      log.info({ peer, reason: error.code }, `Cannot receive transfer: ${error.message}`);
    },
  });
  return { gate, folder, publicKey: formatKey(keys.publicKey) };
}

function wrong(why: string): SallyportError {
  return new SallyportError("config_invalid", `Cannot start: ${why}`, { side: "config" });
}
