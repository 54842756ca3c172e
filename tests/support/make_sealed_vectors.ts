/**
 * Writes `tests/vectors/sealed.json`: two sessions of the sealed transport, byte for byte, with all secrets. Run it
 * where the format has changed: `deno run -A tests/support/make_sealed_vectors.ts`.
 *
 * @module
 */
import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { loadSodium } from "../../src/crypto/sodium.ts";
import { makeSealedVectors } from "./sealed_vectors.ts";

const path = fileURLToPath(new URL("../vectors/sealed.json", import.meta.url).href);
await writeFile(path, `${JSON.stringify(makeSealedVectors(await loadSodium()), null, 2)}\n`);
console.log(path);
