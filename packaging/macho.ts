/**
 * Mach-O files, the executables of macOS: enough to take the signature off one (Apple's <mach-o/loader.h>).
 *
 * @module
 */

const MAGIC_64 = 0xfeedfacf;
const HEADER_BYTES = 32;
const COMMANDS_AT = 16;
const COMMANDS_BYTES_AT = 20;
const SEGMENT_64 = 0x19;
const CODE_SIGNATURE = 0x1d;
const SIGNATURE_COMMAND_BYTES = 16;
/** In a segment's command: its name, and its size in the file. */
const NAME_AT = 8;
const FILE_SIZE_AT = 48;

/**
 * The file without its signature, as `codesign --remove-signature` leaves it. It has to end with the signature, and its
 * load commands too, as linkers write them; otherwise this throws.
 */
export function withoutSignature(file: Uint8Array): Uint8Array {
  const bytes = Uint8Array.from(file);
  const view = new DataView(bytes.buffer);
  const u32 = (at: number) => view.getUint32(at, true);
  if (u32(0) !== MAGIC_64) throw new Error("Cannot take off signature: it isn't a 64-bit Mach-O file");
  const count = u32(COMMANDS_AT);
  let last = 0;
  let linkEdit = 0;
  for (let i = 0, at = HEADER_BYTES; i < count; at += u32(at + 4), i++) {
    const name = new TextDecoder().decode(bytes.subarray(at + NAME_AT, at + NAME_AT + "__LINKEDIT".length));
    if (u32(at) === SEGMENT_64 && name === "__LINKEDIT") linkEdit = at;
    last = at;
  }
  const [start, size] = [u32(last + 8), u32(last + 12)];
  if (u32(last) !== CODE_SIGNATURE || linkEdit === 0 || start + size !== bytes.length) {
    throw new Error("Cannot take off signature: the file doesn't end with one");
  }
  view.setUint32(COMMANDS_AT, count - 1, true);
  view.setUint32(COMMANDS_BYTES_AT, u32(COMMANDS_BYTES_AT) - SIGNATURE_COMMAND_BYTES, true);
  bytes.fill(0, last, last + SIGNATURE_COMMAND_BYTES);
  const fileSize = view.getBigUint64(linkEdit + FILE_SIZE_AT, true);
  view.setBigUint64(linkEdit + FILE_SIZE_AT, fileSize - BigInt(size), true);
  return bytes.subarray(0, start);
}
