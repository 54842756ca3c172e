/**
 * Small faults that a source file could have: each mutant replaces one stretch of it. Found in the text, which
 * `deno fmt` has brought into one shape: operators stand between blanks, types' brackets don't.
 *
 * @module
 */

/** One fault. */
export interface Fault {
  readonly from: number;
  readonly to: number;
  readonly text: string;
  /** From 1 on. */
  readonly line: number;
  /** What is replaced by what. */
  readonly what: string;
}

const OPERATORS: Readonly<Record<string, readonly string[]>> = {
  "<": ["<=", ">="],
  "<=": ["<", ">"],
  ">": [">=", "<="],
  ">=": [">", "<"],
  "===": ["!=="],
  "!==": ["==="],
  "+": ["-"],
  "-": ["+"],
  "*": ["/"],
  "/": ["*"],
  "%": ["*"],
  "**": ["*"],
  "&&": ["||"],
  "||": ["&&"],
  "<<": [">>"],
  ">>": ["<<"],
  ">>>": ["<<"],
  "+=": ["-="],
  "-=": ["+="],
};

/** All faults of a source text, in the order of the text. */
export function faultsOf(source: string): Fault[] {
  const code = maskTypes(maskText(source));
  const found: Fault[] = [];
  const add = (from: number, to: number, text: string) => {
    const line = source.slice(0, from).split("\n").length;
    const lineText = source.split("\n")[line - 1]!.trim();
    found.push({
      from,
      to,
      text,
      line,
      what: `${short(source.slice(from, to))} → ${short(text)} in ${short(lineText)}`,
    });
  };
  const each = (pattern: RegExp, act: (match: RegExpMatchArray, at: number) => void) => {
    for (const match of code.matchAll(pattern)) act(match, match.index);
  };

  each(/(?<= )(<=?|>=?|[!=]==|[+*/%-]|\*\*|&&|\|\||<<|>>>?|[+-]=)(?=\s)/g, ([operator], at) => {
    // A plus beside a text joins: there is no minus of texts.
    const beside = source.slice(at - 2, at) + source.slice(at + 2, at + 3);
    if (operator === "+" && /["`]/.test(beside)) return;
    for (const other of OPERATORS[operator!] ?? []) add(at, at + operator!.length, other);
  });
  // A number between bars is a type.
  each(/(?<![\w.#$])(?<!\| )\d[\d_]*(\.\d+)?(?![\w.]| \|)/g, ([text], at) => {
    const value = Number(text.replaceAll("_", ""));
    // Far enough off that somebody would notice: a limit of 1,025 instead of 1,024 is no fault.
    const other = value === 0 ? 1 : !Number.isInteger(value) ? value / 2 : value < 16 ? value + 1 : value * 2;
    add(at, at + text.length, String(other));
  });
  each(/\btrue\b|\bfalse\b/g, ([text], at) => add(at, at + text.length, text === "true" ? "false" : "true"));
  each(/(?<=[ (])!(?=[\w(#])/g, (_, at) => add(at, at + 1, ""));
  each(/\+\+|--/g, ([text], at) => add(at, at + 2, text === "++" ? "--" : "++"));
  each(/\bMath\.(min|max)\b/g, ([text], at) => {
    add(at, at + text.length, text.endsWith("min") ? "Math.max" : "Math.min");
  });
  each(/\bif \(/g, (match, at) => {
    const from = at + match[0].length;
    const to = closing(code, from - 1);
    add(from, to, "true");
    add(from, to, "false");
  });
  // A call, or an assignment to a member, that is a statement of one line.
  each(/(?<=\n) {4,}((?:await )?(?:this|[a-z]\w*)[\w.#?!]*(?:\([^\n]*\)| = [^\n]*));(?=\n)/g, (match, at) => {
    const statement = match[1]!;
    const from = at + match[0].indexOf(statement);
    const assigns = / = /.test(statement.split("(")[0]!);
    if (/^(super|return|throw)\b/.test(statement) || (assigns && inConstructor(code, at))) return;
    add(from, from + statement.length, "");
  });
  return found.sort((a, b) => a.from - b.from || a.to - b.to);
}

/** The text with comments, strings and regular expressions blanked. */
function maskText(source: string): string {
  const parts =
    /\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`|(?<=[(,=] ?)\/(?:[^/\\\n]|\\.)+\/[a-z]*/g;
  return source.replace(parts, (part) => part.replace(/[^\n]/g, "_"));
}

/** The text with imports, types and errors' arguments blanked: no test should pin what an error says. */
function maskTypes(code: string): string {
  let masked = code;
  const blank = (from: number, to: number) => {
    masked = masked.slice(0, from) + masked.slice(from, to).replace(/[^\n]/g, "_") + masked.slice(to);
  };
  for (
    const { index, 0: text } of code.matchAll(
      /^import [^;]*;|^export (type )?[{*][^;]*;|^(export )?type [^;]*;/gm,
    )
  ) {
    blank(index, index + text.length);
  }
  for (const { index, 0: text } of code.matchAll(/^(export )?interface [^{]*\{/gm)) {
    blank(index, closing(code, index + text.length - 1));
  }
  for (const { index, 0: text } of code.matchAll(/\bnew \w*Error\(/g)) {
    blank(index, closing(code, index + text.length - 1));
  }
  return masked;
}

/** Where the bracket that opens at `at` closes. */
function closing(code: string, at: number): number {
  let depth = 0;
  for (let i = at; i < code.length; i++) {
    if ("([{".includes(code[i]!)) depth++;
    if (")]}".includes(code[i]!) && --depth === 0) return i;
  }
  return code.length;
}

function inConstructor(code: string, at: number): boolean {
  const start = code.lastIndexOf("\n  constructor(", at);
  if (start < 0) return false;
  const body = code.indexOf("{", closing(code, code.indexOf("(", start)));
  return at < closing(code, body);
}

function short(text: string): string {
  const line = text.replace(/\s+/g, " ");
  if (line === "") return "nothing";
  return line.length > 60 ? `${line.slice(0, 57)}...` : line;
}
