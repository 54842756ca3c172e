/** A transport that the edge doesn't know: one more entry of its table, and nothing else. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { RandomPool } from "../../src/crypto/random.ts";
import { loginProof } from "../../src/protocol/handshake/login_proof.ts";
import { CreditScratch } from "../../src/protocol/mux/credit/sender.ts";
import { CreditSession } from "../../src/protocol/mux/credit/session.ts";
import type { CreatedToken } from "../../src/protocol/token/token.ts";
import type { Clock, Conn } from "../../src/runtime/port.ts";
import { ConnSession } from "../../src/transport/conn_session.ts";
import type { EdgeTransport } from "../../src/transport/edge_transport.ts";
import { connIo, ServerHandshake } from "../../src/transport/server_handshake.ts";
import { snitunTransport } from "../../src/transport/snitun/edge.ts";
import {
  decodeLogin,
  decodeVerdict,
  encodeLogin,
  encodeVerdict,
  LOGIN_MAX_BYTES,
  loginLength,
  verdictLength,
} from "../../src/wire/login/login_messages.ts";
import {
  AGENT_HOST,
  bytesFrom,
  concat,
  EDGE_HOST,
  EDGE_PORT,
  TestAgent,
  TestEdge,
} from "../support/tunnel.ts";

const NAME = "plain";
const MARK = 0x01;
const EDGE_KEY = new Uint8Array(32).fill(7);
const shared = { scratch: new CreditScratch(), random: new RandomPool() };

function sessionOn(conn: Conn, clock: Clock, role: "agent" | "edge"): ConnSession {
  return new ConnSession({
    transport: NAME,
    cipher: "none",
    halfClose: true,
    conn,
    clock,
    mux: (host) => new CreditSession({ role, host, ...shared }),
  });
}

/** A byte of its own, then LOGIN and VERDICT in clear, then frames; the channel is a test's own. */
function plainTransport(channel: Bytes): EdgeTransport {
  return {
    name: NAME,
    takes: (firstByte) => firstByte === MARK,
    accept({ conn, received, remote, left }, { runtime, admission }) {
      const { clock } = runtime;
      let got: Bytes = new Uint8Array(0);
      const handshake = new ServerHandshake({
        admission,
        clock,
        io: connIo(conn),
        remote,
        left,
        steps: (host) => ({
          known: false,
          start: () => host.awaitUntil(host.nowMs() + 1_000, () => assert.fail("late")),
          receive: (bytes) => {
            got = concat(got, bytes);
            assert.ok(got.length <= 1 + LOGIN_MAX_BYTES);
            if (loginLength(got.subarray(1)) !== got.length - 1) return;
            host.login(decodeLogin(got.subarray(1)), { transport: NAME, edgeKey: EDGE_KEY, channel });
          },
          authorized: () => host.proved(new Uint8Array(0)),
          open: () => {
            const session = sessionOn(conn, clock, "edge");
            const begin: ConnSession["start"] = (handler, rest) => {
              conn.write(encodeVerdict(undefined));
              session.start(handler, rest);
            };
            return { session, begin };
          },
          farewell: ({ code }) => encodeVerdict(code),
        }),
      });
      conn.attach(handshake);
      handshake.start(received);
    },
  };
}

/** What the edge says first; a session's frames follow a welcome. */
const verdictOf = (heard: Bytes) => decodeVerdict(heard.subarray(0, verdictLength(heard)));

describe("EdgeTransport: a transport outside src", () => {
  const channel = new Uint8Array(32).fill(9);
  const login = ({ token: text, claims }: CreatedToken, aesKey = claims.aesKey): Bytes => {
    const token: Bytes = new TextEncoder().encode(text);
    const proof = loginProof(aesKey, token, { transport: NAME, edgeKey: EDGE_KEY, channel });
    return concat(Uint8Array.of(MARK), encodeLogin({ token, proof }));
  };

  it("lets agents in at the port that all share, and serves their visitors", async () => {
    const test = await TestEdge.start({ transports: [snitunTransport(), plainTransport(channel)] });
    const conn = await test.dial(AGENT_HOST);
    const agent = new TestAgent(test.token());
    conn.write(login(agent.token));
    await test.advance(10);
    const heard = bytesFrom(conn);
    assert.equal(verdictOf(heard), undefined);
    agent.session = sessionOn(conn.conn, test.runtime(AGENT_HOST).clock, "agent");
    (agent.session as ConnSession).start(agent, heard.slice(1));
    const { hello } = await test.visit();
    assert.deepEqual(bytesFrom(agent.streams[0]!), hello);
    assert.equal(await test.metric("sessions", { transport: NAME, cipher: "none", protocol_version: "" }), 1);
    // The others go on beside it.
    await test.connect({ hostname: "b.test" });
    assert.ok(test.edge.serves("b.test"));
    await test.assertNothingLeft();
  });

  it("has all that admission asks for: the proof, one session a key, and the token's own transports", async () => {
    const test = await TestEdge.start({ transports: [plainTransport(channel)] });
    const answer = async (bytes: Bytes) => {
      const conn = await test.dial(AGENT_HOST);
      conn.write(bytes);
      await test.advance(10);
      return verdictOf(bytesFrom(conn));
    };
    const token = test.token();
    assert.equal(await answer(login(token, new Uint8Array(32))), "challenge_failed");
    assert.equal(await answer(login(token)), undefined);
    assert.equal(await answer(login(token)), "key_reused");
    assert.equal(await answer(login(test.token({ extra: { transports: ["sealed"] } }))), "access_denied");
    // Without SniTun in the table a token in clear is nobody's.
    await assert.rejects(test.connect(), { code: "session_refused" });
    await assert.rejects(test.edge.listen({ host: EDGE_HOST, port: EDGE_PORT + 1, accepts: "snitun" }), {
      code: "config_invalid",
    });
    await test.assertNothingLeft();
  });
});
