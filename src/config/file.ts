/**
 * A configuration file in YAML or JSON (a subset of YAML), with the position of each value.
 *
 * @module
 */
import { isMap, isNode, isPair, LineCounter, type Node, parseDocument } from "yaml";
import { SallyportError } from "../errors.ts";

/** A path into a file's content: names of members, and indices of lists. */
type FilePath = readonly PropertyKey[];

/** A fault in a file; lines and columns count from 1. */
export interface FileFault {
  readonly line: number;
  readonly column: number;
  readonly message: string;
}

/** A parsed configuration file. */
export class ConfigFile {
  readonly path: string;
  /** Its members, by name. */
  readonly members: Readonly<Record<string, unknown>>;
  readonly #document: ReturnType<typeof parseDocument>;
  readonly #lines: LineCounter;

  /** Throws `config_invalid` if the text is neither YAML nor JSON, or isn't a single object. */
  constructor(path: string, text: string) {
    this.path = path;
    this.#lines = new LineCounter();
    this.#document = parseDocument(text, { lineCounter: this.#lines, prettyErrors: false });
    const [error] = this.#document.errors;
    if (error !== undefined) {
      const { line, col } = this.#lines.linePos(error.pos[0]);
      throw cannotRead(`${path}:${line}:${col}`, error.message);
    }
    const content: unknown = this.#document.toJS();
    // A file with only comments counts as empty.
    if (content === null || content === undefined) this.members = {};
    else if (typeof content === "object" && !Array.isArray(content)) {
      this.members = content as Record<string, unknown>;
    } else throw cannotRead(path, "it must hold one object, such as `listen: 0.0.0.0:8443`");
  }

  /** `FILE:LINE:COLUMN` of the value at the path; with `key`, of its name. */
  where(path: FilePath, { key = false } = {}): string {
    const { line, column } = this.position(path, { key });
    return `${this.path}:${line}:${column}`;
  }

  /** Position of the value at a path, or of its nearest existing ancestor; with `key`, of its name. */
  position(path: FilePath, { key = false } = {}): { readonly line: number; readonly column: number } {
    for (let length = path.length; length > 0; length--) {
      const node = this.#node(path.slice(0, length), key && length === path.length);
      if (node?.range != null) {
        const { line, col } = this.#lines.linePos(node.range[0]);
        return { line, column: col };
      }
    }
    return { line: 1, column: 1 };
  }

  #node(path: FilePath, key: boolean): Node | undefined {
    const parent: unknown = path.length === 1
      ? this.#document.contents
      : this.#document.getIn(path.slice(0, -1), true);
    const last = path.at(-1);
    if (key && isMap(parent)) {
      const pair = parent.items.find((item) => isPair(item) && isNode(item.key) && String(item.key) === last);
      if (isNode(pair?.key)) return pair.key;
    }
    const node: unknown = this.#document.getIn(path, true);
    return isNode(node) ? node : undefined;
  }
}

function cannotRead(where: string, why: string): SallyportError {
  const message = `Cannot read configuration file ${where}: ${why.replace(/\s+/g, " ").trim()}`;
  return new SallyportError("config_invalid", message, { side: "config" });
}
