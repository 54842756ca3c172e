/** httpControlLink: a session master reached over HTTP, played by the test. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { FernetRing } from "../../../src/crypto/fernet.ts";
import {
  CONTROL_LINE_MAX_BYTES,
  CONTROL_SILENCE_MS,
  httpControlLink,
} from "../../../src/edge/ledger/http_link.ts";
import { errorCode } from "../../../src/errors.ts";
import { openEdgeProof, StreamSealer } from "../../../src/protocol/token/edge_proof.ts";
import type { EdgeMessage, EdgeReport } from "../../../src/wire/control/control_messages.ts";
import { FERNET_KEY } from "../../support/tunnel.ts";
import { VirtualClock } from "../../support/virtual_clock.ts";

const MiB = 1024 * 1024;
const utf8 = (text: string) => new TextEncoder().encode(text);

/** A link whose requests the test answers. */
function bench(answer: (request: Request) => Response | Promise<Response>, master = "https://m.test/base") {
  const clock = new VirtualClock();
  const ring = new FernetRing([FERNET_KEY]);
  const requests: Request[] = [];
  const link = httpControlLink({
    master,
    edge: "edge-1",
    ring,
    clock,
    fetch: (request) => {
      requests.push(request);
      return Promise.resolve(answer(request));
    },
  });
  /** What the request proves: the edge's name and the key of the stream. */
  const proof = (path: string) => {
    const [request] = requests;
    const text = request!.headers.get("authorization")!.replace("Bearer ", "");
    return openEdgeProof(ring, text, { method: request!.method, path }, clock.wallMs())!;
  };
  return { clock, link, requests, proof };
}

/** A stream of the master's, begun: what it has said, and how to say more. */
async function listening(since?: number) {
  let stream!: ReadableStreamDefaultController<Uint8Array>;
  let cancelled = false;
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => void (stream = controller),
    cancel: () => void (cancelled = true),
  });
  const made = bench(() => new Response(body));
  const heard: EdgeMessage[] = [];
  const closing = new AbortController();
  let outcome: string | undefined;
  const over = made.link.listen(since, (message) => void heard.push(message), closing.signal)
    .then(() => "over", (error) => errorCode(error)).then((how) => outcome = how);
  await turns();
  const sealer = new StreamSealer(made.proof("/v1/edges/changes").key);
  return {
    ...made,
    heard,
    closing,
    over,
    outcome: () => outcome,
    cancelled: () => cancelled,
    raw: async (bytes: Uint8Array) => {
      stream.enqueue(bytes);
      await turns();
    },
    end: () => stream.close(),
    line: (message: EdgeMessage) => sealer.seal(JSON.stringify(message)) + "\n",
  };
}

/** Lets settled promises and streams run. */
async function turns(): Promise<void> {
  for (let i = 0; i < 10; i++) await new Promise((resolve) => setImmediate(resolve));
}

describe("httpControlLink: listen()", () => {
  it("asks for the changes after those that it knows, with the edge's proof", async () => {
    for (const [since, query] of [[undefined, ""], [0, "?since=0"], [17, "?since=17"]] as const) {
      const { requests, proof, closing, over } = await listening(since);
      assert.equal(requests[0]!.url, `https://m.test/base/v1/edges/changes${query}`);
      assert.deepEqual([requests[0]!.method, requests[0]!.redirect], ["GET", "error"]);
      assert.equal(proof("/v1/edges/changes").edge, "edge-1");
      closing.abort();
      await over;
    }
  });

  it("hands on each line, however it is cut, and passes over empty ones", async () => {
    const { heard, raw, line, end, over } = await listening();
    const messages: EdgeMessage[] = [
      { kind: "agent", seq: 1, ruling: { agent: "a", blocked: true, generation: 2 } },
      { kind: "keys", seq: 2, keys: [] },
      { kind: "close_session", seq: 3, session: "s" },
    ];
    const text = utf8(messages.map((message) => `\n${line(message)}`).join(""));
    for (let at = 0; at < text.length; at += 50) await raw(text.slice(at, at + 50));
    assert.deepEqual(heard, messages);
    end();
    assert.equal(await over, "over");
  });

  it("fails when nothing, not even an empty line, has come for three heartbeats", async () => {
    assert.equal(CONTROL_SILENCE_MS, 15_000);
    const { clock, raw, outcome, over, cancelled } = await listening();
    clock.run(14_999);
    await raw(utf8("\n"));
    clock.run(14_999);
    await turns();
    assert.equal(outcome(), undefined);
    clock.run(1);
    assert.equal(await over, "master_unreachable");
    await turns();
    assert.equal(cancelled(), true);
  });

  it("ends with its signal, and lets the stream go", async () => {
    const { closing, over, cancelled } = await listening();
    closing.abort(new Error("closing"));
    assert.equal(await over, "internal");
    await turns();
    assert.equal(cancelled(), true);
  });

  it("fails where the answer isn't 200, whatever it is", async () => {
    for (const status of [204, 401, 500]) {
      const { link } = bench(() => new Response(status === 204 ? null : "no", { status }));
      await assert.rejects(link.listen(undefined, () => {}, new AbortController().signal), {
        code: "master_unreachable",
        side: "network",
        retryable: true,
        message: `https://m.test/base: it answered ${status}`,
      });
    }
  });

  it("takes lines of CONTROL_LINE_MAX_BYTES and no longer ones", async () => {
    assert.equal(CONTROL_LINE_MAX_BYTES, 32 * MiB);
    const { raw, outcome, over } = await listening();
    const part = new Uint8Array(16 * MiB).fill(0x61);
    await raw(part);
    await raw(part);
    assert.equal(outcome(), undefined);
    await raw(utf8("a"));
    assert.equal(await over, "master_unreachable");
  });
});

describe("httpControlLink: report()", () => {
  const report: EdgeReport = {
    ...{ edge: "edge-1", epoch: "e", seq: 1, fresh: true, sessions: [], closed: [], usage: [] },
    watched: ["a"],
  };
  const receipt = { epoch: "e", seq: 1, month: "2026-01", used: [{ agent: "a", bytes: 5 }] };

  it("posts the report with the edge's proof, and gives the receipt", async () => {
    const { link, requests, proof } = bench(() => Response.json(receipt), "https://m.test/");
    assert.deepEqual(await link.report(report), receipt);
    const [request] = requests;
    assert.deepEqual([request!.method, request!.url], ["POST", "https://m.test/v1/edges/reports"]);
    assert.equal(request!.headers.get("content-type"), "application/json");
    assert.deepEqual(await request!.json(), report);
    assert.equal(proof("/v1/edges/reports").edge, "edge-1");
  });

  it("fails where the answer isn't 200", async () => {
    for (const status of [201, 400, 503]) {
      const { link } = bench(() => Response.json(receipt, { status }));
      await assert.rejects(link.report(report), {
        code: "master_unreachable",
        message: `https://m.test/base: it answered a report with ${status}`,
      });
    }
  });

  it("takes answers of 4 MiB and no longer ones", async () => {
    const text = JSON.stringify(receipt);
    const answer = (size: number) => bench(() => new Response(text.padEnd(size, " "))).link.report(report);
    assert.deepEqual(await answer(4 * MiB), receipt);
    await assert.rejects(answer(4 * MiB + 1), { code: "master_unreachable", message: /too long/ });
  });

  it("refuses an answer that is no receipt", async () => {
    await assert.rejects(bench(() => Response.json({ ...receipt, seq: -1 })).link.report(report));
    await assert.rejects(bench(() => new Response(null)).link.report(report), SyntaxError);
  });
});
