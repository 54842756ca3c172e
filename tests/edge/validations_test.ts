/** An authority's validations of a name that several agents share. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { AlertDescription, encodeAlert } from "../../src/wire/tls/tls_alert.ts";
import { FIRST_BYTE_DEADLINE_MS } from "../../src/transport/splice.ts";
import { bytesOf } from "../conformance/runtime_helpers.ts";
import { clientHello } from "../support/client_hello.ts";
import { assertAlert, bytesFrom, type TestAgent, TestEdge } from "../support/tunnel.ts";

const FLIGHT = bytesOf("the challenge's certificate");
const REFUSAL = encodeAlert(AlertDescription.no_application_protocol);

async function world(count: number) {
  const test = await TestEdge.start();
  const agents: TestAgent[] = [];
  for (let i = 0; i < count; i++) {
    const token = { hostname: "a.test", extra: { shared: `agent-number-${i}` } };
    agents.push(await test.connect(token, { from: `10.0.1.${i + 1}` }));
  }
  const refuse = (agent: TestAgent) => {
    agent.onStream = (stream) => {
      stream.onData = () => {
        stream.write(REFUSAL);
        stream.closeWrite();
      };
    };
  };
  const validate = (more: { from?: string } = {}) => {
    const hello = new Uint8Array(clientHello("a.test", undefined, ["acme-tls/1"]));
    return test.visit("a.test", { hello, ...more });
  };
  return { test, agents, refuse, validate };
}

describe("createEdge: an authority's validation of a shared name", () => {
  it("reaches the agent that has the challenge, whichever has its turn", async () => {
    const { test, agents, refuse, validate } = await world(3);
    agents.forEach(refuse);
    agents[1]!.onStream = (stream) => {
      stream.onData = () => void stream.write(FLIGHT);
    };
    for (let i = 0; i < 4; i++) {
      const { conn, hello } = await validate();
      await test.advance(100);
      assert.deepEqual(bytesFrom(conn), FLIGHT);
      const stream = agents[1]!.streams.at(-1)!;
      assert.deepEqual(bytesFrom(stream), hello);
      // It goes on as any visitor's.
      conn.write(bytesOf("finished"));
      stream.onData = () => {};
      await test.advance(100);
      assert.equal(stream.byteLength, hello.length + 8);
      conn.abort();
      await test.advance(100);
    }
    assert.equal(agents[1]!.streams.length, 4);
  });

  it("is refused where none has it, and where an agent is silent it takes its time for that one", async () => {
    const { test, agents, refuse, validate } = await world(2);
    agents.forEach(refuse);
    const { conn } = await validate();
    await test.advance(100);
    assertAlert(conn, AlertDescription.no_application_protocol);
    assert.deepEqual(agents.map(({ streams }) => streams.length), [1, 1]);
    agents[0]!.onStream = () => {};
    agents[1]!.onStream = agents[0]!.onStream;
    const late = await validate();
    await test.advance(FIRST_BYTE_DEADLINE_MS + 100);
    assert.equal(late.conn.byteLength, 0);
    await test.advance(FIRST_BYTE_DEADLINE_MS + 100);
    assertAlert(late.conn, AlertDescription.no_application_protocol);
    assert.equal(await test.refusals("visitor", "request_refused"), 2);
    assert.equal(await test.refusals("visitor", "connection_lost"), 0);
  });

  it("that leaves meanwhile leaves nothing behind", async () => {
    const { test, agents, validate } = await world(2);
    const { conn } = await validate();
    assert.equal(agents.flatMap(({ streams }) => streams).length, 1);
    conn.abort();
    await test.advance(100);
    assert.equal(agents.flatMap(({ streams }) => streams).filter(({ closes }) => closes === 0).length, 0);
    test.network.reset("10.0.0.1", "10.0.1.1");
    test.network.reset("10.0.0.1", "10.0.1.2");
    await test.advance(10);
    await test.assertNothingLeft();
  });

  it("of a name of one agent goes to it, alert or not", async () => {
    const { test, agents, refuse, validate } = await world(1);
    agents.forEach(refuse);
    const { conn } = await validate();
    await test.advance(100);
    assertAlert(conn, AlertDescription.no_application_protocol);
    assert.equal(agents[0]!.streams.length, 1);
  });
});
