/** The two drivers of handshakes, with steps of the test's own, in virtual time. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { FernetRing, generateFernetKey } from "../../src/crypto/fernet.ts";
import { type ErrorCode, errorCode, SallyportError } from "../../src/errors.ts";
import { loginProof } from "../../src/protocol/handshake/login_proof.ts";
import { createToken, tryOpenToken } from "../../src/protocol/token/token.ts";
import { createMemoryNetwork } from "../../src/runtime/memory/memory.ts";
import type { AgentAdmission } from "../../src/transport/admission.ts";
import { ClientHandshake, type ClientSteps } from "../../src/transport/client_handshake.ts";
import { PendingConnections } from "../../src/wire/ip/pending_connections.ts";
import type { Session, SessionHandler } from "../../src/transport/port.ts";
import { HANDSHAKE_SLICE_MS, Slices } from "../../src/transport/slices.ts";
import {
  DECISION_DEADLINE_MS,
  ServerHandshake,
  type ServerHandshakeHost,
  type ServerSteps,
} from "../../src/transport/server_handshake.ts";

const BINDING = { transport: "test", edgeKey: new Uint8Array(32), channel: new Uint8Array(32).fill(1) };
const REMOTE = { host: "192.0.2.1", port: 1 };
const NOTHING: Bytes = new Uint8Array(0);
const session = {} as Session;
const handler = {} as SessionHandler;
const said = (text: string): Bytes => new TextEncoder().encode(text);
const text = (bytes: Bytes): string => new TextDecoder().decode(bytes);

/** An accepting handshake whose steps are words: "login", "wrong", "silent", "late", "over". */
class Accepting {
  readonly network = createMemoryNetwork({ seed: 1 });
  readonly ring = new FernetRing([generateFernetKey()]);
  readonly events: string[] = [];
  readonly handshake: ServerHandshake;
  authorize: AgentAdmission["authorize"] = () => {};
  admit: () => SessionHandler = () => handler;
  silentMs: number | undefined;
  left = 0;
  known = 0;

  /** @param slices what handshakes may take of a turn; the connection can be held then */
  constructor(begin: () => void = () => {}, slices?: Slices) {
    const { clock } = this.network;
    const { token, claims } = createToken(this.ring, {
      hostname: "a.test",
      ttlSeconds: 60,
      nowMs: clock.wallMs(),
    });
    const bytes = said(token);
    const steps = (host: ServerHandshakeHost): ServerSteps => ({
      known: false,
      start: () => {
        begin();
        host.awaitUntil(host.nowMs() + 1_000, () => {
          throw new SallyportError("deadline_exceeded", "too late", { side: "network" });
        });
      },
      receive: (chunk) => {
        const word = text(chunk);
        this.events.push(`got ${word}`);
        if (word === "login" || word === "forged") {
          const proof = word === "login" ? loginProof(claims.aesKey, bytes, BINDING) : new Uint8Array(32);
          host.login({ token: bytes, proof }, BINDING);
        } else if (word === "over") host.handOver();
        else throw new SallyportError("token_invalid", "wrong", { side: "peer" });
      },
      authorized: () => host.proved(said("rest")),
      open: () => ({
        session,
        begin: (given, rest) => {
          assert.equal(given, handler);
          this.events.push(`begun with ${text(rest)}`);
        },
      }),
      farewell: ({ code }) => said(code),
      silentUntilMs: () => this.silentMs === undefined ? undefined : host.nowMs() + this.silentMs,
      overheard: (chunk) => void this.events.push(`overheard ${text(chunk)}`),
      drop: () => void this.events.push("dropped"),
    });
    this.handshake = new ServerHandshake({
      admission: {
        openToken: (shown) => tryOpenToken(this.ring, shown, clock.wallMs() / 1000),
        authorize: (...asked) => this.authorize(...asked),
        admit: () => this.admit(),
        refused: (error, shown, _remote, known) =>
          void this.events.push(`refused ${error.code}${shown === undefined ? "" : " with token"} ${known}`),
        ...slices === undefined ? {} : { slices },
      },
      clock,
      io: {
        write: (written) => void this.events.push(`said ${text(written)}`),
        end: (_error, left) => left(),
        ...slices === undefined
          ? {}
          : { hold: (hold: boolean) => void this.events.push(hold ? "held" : "resumed") },
      },
      remote: REMOTE,
      left: () => void this.left++,
      known: () => void this.known++,
      steps,
    });
    this.handshake.start(NOTHING);
  }

  /** What has happened since the last call. */
  get news(): string[] {
    return this.events.splice(0);
  }

  say(word: string): this {
    this.handshake.data(said(word));
    return this;
  }

  async assertSettled(): Promise<void> {
    assert.equal(this.left, 1, "the place is given up once");
    this.handshake.data(said("login"));
    this.handshake.close();
    this.handshake.fail(new Error("late"));
    await this.network.advance(10 * DECISION_DEADLINE_MS);
    assert.deepEqual([this.news, this.left], [[], 1]);
  }
}

describe("ServerHandshake", () => {
  it("admits an agent that proves its token's key, and is settled then", async () => {
    const test = new Accepting();
    test.say("login");
    assert.deepEqual(test.news, ["got login", "begun with rest"]);
    assert.equal(test.known, 1, "it counts as an agent's");
    await test.assertSettled();
  });

  it("refuses where its steps can't begin, and hears nothing then", async () => {
    const test = new Accepting(() => {
      throw new SallyportError("limit_exceeded", "no room", { side: "local" });
    });
    assert.deepEqual(test.news, ["said limit_exceeded", "dropped", "refused limit_exceeded false"]);
    assert.equal(test.known, 0);
    await test.assertSettled();
  });

  it("waits for its turn where others have used this one's time, and keeps the bytes", async () => {
    let nowMs = 0;
    let turn = (): void => {};
    const soon = (run: () => void): void => void (turn = run);
    const slices = new Slices({
      nowMs: () => nowMs,
      wallMs: () => nowMs,
      after: () => ({ cancel() {} }),
      soon,
    });
    const useUp = () => slices.work(() => void (nowMs += HANDSHAKE_SLICE_MS));
    const test = new Accepting(undefined, slices);
    useUp();
    const login = said("login");
    test.handshake.data(login);
    login.fill(0);
    assert.deepEqual(test.news, ["held"]);
    turn();
    assert.deepEqual(test.news, ["resumed", "got login", "begun with rest"]);
    await test.assertSettled();

    const leaving = new Accepting(undefined, slices);
    turn();
    useUp();
    leaving.say("login");
    leaving.handshake.close();
    turn();
    assert.deepEqual(leaving.news, ["held", "dropped", "refused connection_lost false"]);
    await leaving.assertSettled();

    // What came before the deadline counts, though its turn comes later; what is wrong then is refused then.
    for (const [word, outcome] of [["login", "begun with rest"], ["over", undefined]] as const) {
      turn();
      const late = new Accepting(undefined, slices);
      useUp();
      late.say(word);
      await late.network.advance(2_000);
      assert.deepEqual(late.news, ["held"]);
      turn();
      assert.deepEqual(late.news, ["resumed", `got ${word}`, ...outcome === undefined ? [] : [outcome]]);
      await late.assertSettled();
    }
  });

  it("a deadline that passed in the queue is dropped where the next one has begun", async () => {
    let turn = (): void => {};
    const clock = { nowMs: () => 0, wallMs: () => 0, after: () => ({ cancel() {} }) };
    const slices = new Slices({ ...clock, soon: (run) => void (turn = run) });
    const test = new Accepting(undefined, slices);
    const decision = Promise.withResolvers<void>();
    test.authorize = () => decision.promise;
    slices.later(() => {});
    test.say("login");
    await test.network.advance(2_000);
    turn();
    assert.deepEqual(test.news, ["held", "resumed", "got login"], "the decision has a deadline of its own");
    await test.network.advance(DECISION_DEADLINE_MS);
    assert.deepEqual(test.news.at(-1), "refused deadline_exceeded with token true");
    await test.assertSettled();
  });

  it("refuses a login without the key, says why, and counts it as an agent's", async () => {
    const test = new Accepting();
    test.say("forged");
    assert.deepEqual(test.news, [
      "got forged",
      "said challenge_failed",
      "dropped",
      "refused challenge_failed with token true",
    ]);
    await test.assertSettled();
  });

  it("gives up what doesn't come in time, and a decision that takes too long", async () => {
    const idle = new Accepting();
    await idle.network.advance(1_000);
    assert.deepEqual(idle.news, ["said deadline_exceeded", "dropped", "refused deadline_exceeded false"]);
    await idle.assertSettled();
    const undecided = new Accepting();
    const decision = Promise.withResolvers<void>();
    undecided.authorize = () => decision.promise;
    undecided.say("login");
    await undecided.network.advance(DECISION_DEADLINE_MS - 1);
    assert.deepEqual(undecided.news, ["got login"]);
    await undecided.network.advance(1);
    assert.deepEqual(undecided.news.at(-1), "refused deadline_exceeded with token true");
    decision.resolve();
    await undecided.assertSettled();
  });

  it("admits no agent that left during the decision, and ignores a decision after a refusal", async () => {
    for (const end of ["leave", "reject", "throw"] as const) {
      const test = new Accepting();
      const decision = Promise.withResolvers<void>();
      test.authorize = () => {
        if (end === "throw") throw new SallyportError("unauthorized", "no", { side: "peer" });
        return decision.promise;
      };
      test.say("login");
      if (end === "leave") test.handshake.end();
      if (end === "reject") decision.reject(new SallyportError("unauthorized", "no", { side: "peer" }));
      else decision.resolve();
      await test.network.advance(10);
      const code = end === "leave" ? "connection_lost" : "unauthorized";
      assert.equal(test.news.at(-1), `refused ${code} with token true`, end);
      await test.assertSettled();
    }
  });

  it("refuses what the edge throws when it is to admit", async () => {
    const test = new Accepting();
    test.admit = () => {
      throw new SallyportError("name_taken", "it is taken", { side: "peer" });
    };
    test.say("login");
    assert.deepEqual(test.news.slice(1), [
      "said name_taken",
      "dropped",
      "refused name_taken with token true",
    ]);
    await test.assertSettled();
  });

  it("keeps a refusal back for as long as the steps say, and says nothing then", async () => {
    const test = new Accepting();
    test.silentMs = 5_000;
    test.say("wrong").say("login");
    assert.deepEqual(test.news, ["got wrong", "overheard login"]);
    await test.network.advance(4_999);
    assert.deepEqual(test.news, []);
    await test.network.advance(1);
    assert.deepEqual(test.news, ["dropped", "refused token_invalid false"]);
    await test.assertSettled();
    const left = new Accepting();
    left.silentMs = 5_000;
    left.say("wrong").handshake.end();
    assert.equal(left.news.at(-1), "refused token_invalid false");
    await left.assertSettled();
  });

  it("is settled without a word where the connection is handed over", async () => {
    const test = new Accepting();
    test.say("over");
    assert.deepEqual(test.news, ["got over"]);
    await test.assertSettled();
  });

  it("gives an end from this side as the reason", () => {
    const test = new Accepting();
    test.handshake.close(new SallyportError("shutdown", "the edge shuts down", { side: "local" }));
    assert.equal(test.news.at(-1), "refused shutdown false");
  });
});

/** A dialling handshake; its steps take "challenge", "welcome", "no:CODE" and "wrong". */
class Dialling {
  readonly network = createMemoryNetwork({ seed: 1 });
  readonly events: string[] = [];
  readonly control: AbortController;
  readonly turn = Promise.withResolvers<void>();
  readonly handshake: ClientHandshake;
  readonly received: number[] = [];
  outcome: Session | ErrorCode | undefined;

  constructor(options: { turns?: boolean; token?: string; waits?: boolean; control?: AbortController } = {}) {
    const { turns = false, token, waits = false, control = new AbortController() } = options;
    this.control = control;
    const shown = token ?? new FernetRing([generateFernetKey()]).seal(new Uint8Array(16));
    this.handshake = new ClientHandshake({
      clock: this.network.clock,
      edge: REMOTE,
      token: shown,
      io: {
        write: (bytes) => void this.events.push(`said ${text(bytes).slice(0, 5)}`),
        abort: () => void this.events.push("aborted"),
      },
      signal: this.control.signal,
      ...turns ? { turn: () => this.turn.promise } : {},
      admitted: () => handler,
      steps: (host): ClientSteps => ({
        missing: "without a verdict",
        start: () => {
          host.awaitFor(1_000);
          host.turn(() => host.write(host.token));
        },
        receive: (bytes) => {
          const word = text(bytes);
          this.received.push(bytes.length);
          if (word === "welcome") {
            const begin = (_given: SessionHandler, rest: Bytes) =>
              void this.events.push(`begun ${text(rest)}`);
            host.welcomed({ session, begin }, said("rest"));
          } else if (word.startsWith("no:")) host.refused(word.slice(3));
          else if (!waits) throw new SallyportError("challenge_failed", "wrong", { side: "peer" });
        },
        drop: () => void this.events.push("dropped"),
      }),
    });
    this.handshake.start().then(
      (opened) => this.outcome = opened,
      (error) => this.outcome = errorCode(error),
    );
  }

  async settles(outcome: Session | ErrorCode): Promise<void> {
    await this.network.advance(1);
    assert.equal(this.outcome, outcome);
    const count = this.events.length;
    this.handshake.data(said("welcome"));
    this.handshake.close();
    this.control.abort(new Error("too late"));
    await this.network.advance(100_000);
    assert.equal(this.outcome, outcome);
    assert.equal(this.events.length, count, this.events.join("; "));
  }
}

describe("ClientHandshake", () => {
  it("shows its token and opens the session", async () => {
    const test = new Dialling();
    test.handshake.data(said("welcome"));
    await test.settles(session);
    assert.deepEqual(test.events, ["said gAAAA", "begun rest"]);
  });

  it("shows nothing before its turn, and nothing where the turn doesn't come", async () => {
    const test = new Dialling({ turns: true });
    await test.network.advance(10);
    assert.deepEqual(test.events, []);
    test.turn.resolve();
    await test.network.advance(10);
    assert.deepEqual(test.events, ["said gAAAA"]);
    const lost = new Dialling({ turns: true });
    lost.turn.reject(new SallyportError("aborted", "another was first", { side: "local" }));
    await lost.settles("aborted");
    assert.deepEqual(lost.events, ["dropped", "aborted"]);
  });

  const ends: [string, ErrorCode, (test: Dialling) => unknown][] = [
    ["closes", "session_refused", (test) => test.handshake.end()],
    ["resets", "session_refused", (test) => test.handshake.close(new Error("reset"))],
    ["says nothing", "deadline_exceeded", (test) => test.network.advance(1_000)],
    ["says no", "name_taken", (test) => test.handshake.data(said("no:name_taken"))],
    ["says no with a code of its own", "session_refused", (test) => test.handshake.data(said("no:moon"))],
    ["breaks the protocol", "challenge_failed", (test) => test.handshake.data(said("?"))],
    ["is given up", "aborted", (test) => {
      test.control.abort(new SallyportError("aborted", "enough", { side: "local" }));
    }],
  ];
  for (const [what, code, end] of ends) {
    it(`fails with ${code} where the edge ${what}, and drops what it holds`, async () => {
      const test = new Dialling();
      await end(test);
      await test.settles(code);
      assert.deepEqual(test.events, ["said gAAAA", "dropped", "aborted"]);
    });
  }

  const foreign: [string, string | number[]][] = [
    ["HTTP", "HTTP/1.1 400 Bad Request"],
    ["SSH", "SSH-2.0-OpenSSH_9"],
    ["TLS", [0x15, 3, 3, 0, 2, 2, 40]],
  ];
  for (const [protocol, answer] of foreign) {
    it(`says that the port is another server's where it answers in ${protocol}, however that is cut`, async () => {
      const bytes = typeof answer === "string" ? said(answer) : Uint8Array.from(answer);
      const whole = new Dialling();
      whole.handshake.data(bytes);
      await whole.settles("unknown_protocol");
      assert.deepEqual(whole.received, [], "the steps don't see it");
      // The steps of the test take no byte of it, those of a transport wait for more.
      const cut = new Dialling({ waits: true });
      for (const byte of bytes.subarray(0, 7)) cut.handshake.data(Uint8Array.of(byte));
      await cut.settles("unknown_protocol");
      assert.ok(cut.received.length >= 4 && cut.received.length < 7, `${cut.received}`);
    });
  }

  it("takes for an answer what only begins like another protocol", async () => {
    for (const answer of ["HTTP/2", "SSH-1.99", "xHTTP/1.1"]) {
      const test = new Dialling();
      test.handshake.data(said(answer));
      await test.settles("challenge_failed");
      assert.deepEqual(test.received, [answer.length]);
    }
  });

  it("leaves no timer behind", async () => {
    for (const word of ["welcome", "no:name_taken"]) {
      const test = new Dialling();
      test.handshake.data(said(word));
      await test.network.runUntilIdle();
      assert.ok(test.network.clock.nowMs() < 1_000, word);
    }
  });

  it("isn't begun where it was given up before", async () => {
    const control = new AbortController();
    control.abort(new SallyportError("aborted", "enough", { side: "local" }));
    const test = new Dialling({ control });
    await test.settles("aborted");
    assert.deepEqual(test.events, ["dropped", "aborted"]);
  });

  it("refuses to show what isn't a token", () => {
    for (const token of ["", "GET / HTTP/1.1\r\n\r\n", "A".repeat(140)]) {
      assert.throws(() => new Dialling({ token }), { code: "token_invalid" });
    }
  });
});

describe("PendingConnections", () => {
  it("bounds them in all and by source, and forgets each once", () => {
    const pending = new PendingConnections(4, 2);
    const leave = [pending.enter("192.0.2.1"), pending.enter("192.0.2.1")];
    assert.equal(pending.enter("192.0.2.1"), undefined);
    // A /64 is one source.
    const six = [pending.enter("2001:db8::1"), pending.enter("2001:db8::2")];
    assert.equal(pending.enter("2001:db8::3"), undefined);
    assert.equal(pending.enter("192.0.2.2"), undefined);
    assert.equal(pending.size, 4);
    for (const one of [...leave, ...leave]) one!();
    assert.equal(pending.size, 2);
    assert.ok(pending.enter("192.0.2.2") !== undefined);
    assert.ok(pending.enter("192.0.2.1") !== undefined);
    for (const one of six) one!();
    assert.ok(pending.enter("2001:db8::3") !== undefined);
  });
});
