import { describe, it } from "node:test";
import assert from "node:assert/strict";
import { SallyportError } from "../../src/errors.ts";
import {
  createLogger,
  type LogFields,
  type LogLevel,
  silentLogger,
  terminalText,
} from "../../src/telemetry/log.ts";

const TOKEN = `gAAAAABo${"Zm9vYmFy".repeat(12)}==`;
const AT = Date.UTC(2026, 0, 31, 12, 0, 0, 5);

function collect(format: "text" | "json", level: LogLevel = "debug") {
  const lines: string[] = [];
  const log = createLogger({ level, format, write: (line) => lines.push(line), wallMs: () => AT });
  return { lines, log, last: () => JSON.parse(lines.at(-1) ?? "") as Record<string, unknown> };
}

/** What one event becomes, as JSON without level, time and message. */
function logged(fields: LogFields): Record<string, unknown> {
  const { log, last } = collect("json");
  log.info(fields, "x");
  const { level: _level, time: _time, msg: _msg, ...rest } = last();
  return rest;
}

describe("createLogger", () => {
  it("writes one JSON object a line, with level, time, message and fields", () => {
    const { log, lines } = collect("json");
    log.info({ hostname: "a.example.org", streams: 3, open: true, alias: ["b", "c"] }, "session opened");
    assert.equal(lines.length, 1);
    assert.match(lines[0], /^\{.*\}\n$/);
    assert.deepEqual(JSON.parse(lines[0]), {
      level: "info",
      time: "2026-01-31T12:00:00.005Z",
      hostname: "a.example.org",
      streams: 3,
      open: true,
      alias: ["b", "c"],
      msg: "session opened",
    });
  });

  it("writes text in one line before the call returns, without colours", () => {
    const { log, lines } = collect("text");
    log.warn({ hostname: "a.example.org", detail: "two words", empty: "", streams: 3 }, "visitor refused");
    assert.equal(lines.length, 1);
    assert.match(
      lines[0],
      /^\[2026-0\d-\d\d \d\d:\d\d:00\.005\] WARN: visitor refused hostname=a\.example\.org detail="two words" empty="" streams=3\n$/,
    );
  });

  it("colours text when asked to", () => {
    const lines: string[] = [];
    createLogger({ level: "info", format: "text", colour: true, write: (line) => lines.push(line) }).info(
      {},
      "x",
    );
    // deno-lint-ignore no-control-regex
    assert.match(lines[0], /\u001b\[/);
  });

  it("leaves out what is below its level", () => {
    const methods = ["debug", "info", "warn", "error"] as const;
    for (const level of [...methods, "silent"] as const) {
      const { log, lines } = collect("json", level);
      for (const method of methods) log[method]({}, method);
      const expected = level === "silent" ? [] : methods.slice(methods.indexOf(level));
      assert.deepEqual(lines.map((line) => (JSON.parse(line) as { msg: string }).msg), expected, level);
    }
  });

  it("gives a child's fields to every line of it and of its children, and to no other", () => {
    const { log, last } = collect("json");
    const child = log.child({ session: "s1", token: TOKEN });
    child.child({ stream: "c1" }).info({}, "x");
    assert.equal(last().session, "s1");
    assert.equal(last().stream, "c1");
    assert.equal(last().token, "[redacted]");
    child.info({}, "x");
    assert.equal(last().stream, undefined);
    log.info({}, "x");
    assert.equal(last().session, undefined);
  });

  it("keeps its level in children", () => {
    const { log, lines } = collect("json", "warn");
    log.child({ a: 1 }).info({}, "x");
    assert.equal(lines.length, 0);
  });

  it("redacts fields that name a secret, nested ones and any spelling included", () => {
    for (
      const name of [
        "token",
        "aes_key",
        "aesKey",
        "aes_iv",
        "authorization",
        "Authorization",
        "credential",
        "admin-key",
        "fernet_keys",
        "agent_token",
        "password",
      ]
    ) {
      assert.equal(logged({ [name]: "s3cret" })[name], "[redacted]", name);
      assert.deepEqual(
        logged({ request: { [name]: ["s3cret"] } }),
        { request: { [name]: "[redacted]" } },
        name,
      );
    }
    assert.deepEqual(logged({ key_id: "k1", token_hash: "ab12" }), { key_id: "k1", token_hash: "ab12" });
  });

  it("redacts tokens and credentials inside other text", () => {
    const { log, lines } = collect("json");
    log.error({ error: new Error(`no ${TOKEN}`), header: "Bearer abc.def-123==" }, `got ${TOKEN}`);
    assert.ok(!lines[0].includes(TOKEN.slice(0, 24)));
    assert.ok(!lines[0].includes("abc.def"));
    assert.match(lines[0], /got \[redacted\]/);
  });

  it("escapes controls, line ends and marks of direction, in both formats, names of fields too", () => {
    const hostile = "a\r\nINFO: forged\u001b[31m\u2028\u202e\u0085\u0000";
    for (const format of ["json", "text"] as const) {
      const { log, lines } = collect(format);
      log.info({ hostname: hostile, [`x${hostile}`]: 1, list: [hostile] }, hostile);
      assert.equal(lines.length, 1);
      // deno-lint-ignore no-control-regex
      assert.doesNotMatch(lines[0].slice(0, -1), /[\u0000-\u001f\u007f-\u009f\u2028\u202e]/);
    }
    assert.equal(logged({ hostname: "a\nb" }).hostname, "a\\u000ab");
  });

  it("cuts long strings, long lists and deep objects", () => {
    const { text, list } = logged({ text: "x".repeat(5000), list: new Array<string>(500).fill("y") });
    assert.equal((text as string).length, 1025);
    assert.equal((list as string[]).length, 64);
    const loop: Record<string, unknown> = {};
    loop.self = loop;
    assert.ok(JSON.stringify(logged({ loop: loop as LogFields })).length < 200);
  });

  it("writes an error's message and code; a stack only where there is no code", () => {
    const known = new SallyportError("token_expired", "Cannot open session: the token has expired", {
      side: "peer",
      cause: new Error("why"),
    });
    assert.deepEqual(logged({ error: known }), {
      error: { message: "Cannot open session: the token has expired", code: "token_expired", cause: "why" },
    });
    const { error } = logged({ error: new TypeError("x is not a function") }) as {
      error: Record<string, string>;
    };
    assert.equal(error.message, "x is not a function");
    assert.match(error.stack, /log_test/);
  });

  it("says of bytes only how many there are", () => {
    assert.equal(logged({ chunk: new Uint8Array(7) as unknown as LogFields }).chunk, "[7 bytes]");
  });
});

describe("silentLogger", () => {
  it("takes everything, and its children too", () => {
    silentLogger.child({ a: 1 }).error({ b: 2 }, "x");
    assert.equal(silentLogger.child({}), silentLogger);
    assert.equal(createLogger({ level: "silent", format: "json" }), silentLogger);
  });
});

describe("terminalText", () => {
  it("shows what would act on a terminal, and keeps line breaks and tabs", () => {
    assert.equal(
      terminalText("a\x1b[2Jb\tc\nd\x07\u202ee\x9b1m"),
      "a\\u001b[2Jb\tc\nd\\u0007\\u202ee\\u009b1m",
    );
  });
});
