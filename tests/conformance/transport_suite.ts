/**
 * What every transport must do, sentence by sentence of src/transport/port.ts, on every runtime. Tests wait for
 * events, never for time. What only some transports promise is asked of those alone.
 *
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { SallyportError } from "../../src/errors.ts";
import { WatchedStream } from "../support/tunnel.ts";
import { assertCode, bytesOf, type Harness, hashOf, pattern } from "./runtime_helpers.ts";
import type { SessionPair, TransportKind } from "./transport_helpers.ts";

/** The code that a stream ended with; undefined where its end was in order, or as far as it could tell. */
const codeSeen = ({ closeError }: WatchedStream) => (closeError as SallyportError | undefined)?.code;

const MiB = 1024 * 1024;
const timeout = 60_000;

/** Registers the suite for one transport on one runtime. */
export function transportSuite(runtimeName: string, kind: TransportKind, open: () => Promise<Harness>): void {
  const test = (title: string, body: (pair: SessionPair) => Promise<void>, impatient = false) =>
    it(title, { timeout }, async () => {
      const harness = await open();
      await harness.run(async () => {
        const pair = await kind.open(harness.runtime, harness.host, impatient);
        await body(pair);
        await pair.close(
          new SallyportError("shutdown", "Cannot keep session: the test is over", { side: "local" }),
        );
        assert.deepEqual([pair.edge.streams, pair.agent.streams], [0, 0]);
      });
    });

  describe(`Session over ${kind.name}, runtime ${runtimeName}`, () => {
    test("both ends say what they are", async ({ edge, agent }) => {
      await Promise.resolve();
      assert.equal(edge.transport, kind.name.split(/[ ,]/)[0]);
      assert.deepEqual(
        [edge.transport, edge.cipher, edge.protocolVersion, edge.halfClose, edge.streams],
        [agent.transport, agent.cipher, agent.protocolVersion, kind.halfClose, agent.streams],
      );
      assert.ok(edge.remote.port > 0 && agent.remote.port > 0);
    });

    test("bytes go both ways in order, large and small, and are counted", async (pair) => {
      const { near, far } = await pair.join();
      const [up, down] = [pattern(3 * MiB, 1), pattern(2 * MiB, 2)];
      const send = async (from: typeof near, bytes: typeof up) => {
        let size = 1;
        for (let at = 0; at < bytes.length; at += size, size = size * 7 % 100_003 + 1) {
          const drains = from.drains;
          const chunk = bytes.slice(at, at + size);
          const goOn = from.write(chunk);
          chunk.fill(0);
          if (!goOn) await from.until(() => from.drains > drains);
        }
      };
      await Promise.all([
        send(near, up),
        send(far, down),
        far.received(up.length),
        near.received(down.length),
      ]);
      assert.equal(far.hash, hashOf(up));
      assert.equal(near.hash, hashOf(down));
      assert.deepEqual([pair.agent.bytesReceived, pair.edge.bytesReceived], [up.length, down.length]);
      assert.deepEqual([pair.edge.bytesSent, pair.agent.bytesSent], [up.length, down.length]);
      far.closeWrite();
      near.closeWrite();
      await Promise.all([near.sawClose, far.sawClose]);
      near.assertOver();
      far.assertOver();
    });

    for (const where of ["onData", "onEnd", "onClose"] as const) {
      test(`a stream's handler that throws in ${where} loses its stream alone, and the fault is told`, async (pair) => {
        const neighbour = await pair.join();
        const { near, far } = await pair.join();
        const thrown = new TypeError(`from ${where}`);
        far[where] = () => {
          throw thrown;
        };
        if (where === "onData") near.write(bytesOf("x"));
        else if (where === "onEnd") near.closeWrite();
        else near.abort();
        await pair.agentEar.until(() => pair.agentEar.faults.length > 0);
        const [fault] = pair.agentEar.faults;
        assert.deepEqual([fault!.code, fault!.side, fault!.where, fault!.cause], [
          "internal",
          "local",
          "stream",
          thrown,
        ]);
        await near.sawClose;
        neighbour.near.write(bytesOf("still here"));
        await neighbour.far.received(10);
        assert.equal(pair.agentEar.endedWith, undefined);
        assert.equal(pair.agentEar.faults.length, 1);
        neighbour.near.abort();
      });
    }

    test("an owner that throws at a stream loses that stream alone, and the fault is told", async (pair) => {
      const thrown = new TypeError("from the owner");
      pair.agentEar.also = {
        stream: () => {
          throw thrown;
        },
      };
      const near = new WatchedStream(pair.edge.open({ address: "192.0.2.7" }));
      near.write(bytesOf("x"));
      await pair.agentEar.until(() => pair.agentEar.faults.length > 0);
      assert.deepEqual(pair.agentEar.faults.map(({ cause }) => cause), [thrown]);
      await near.sawClose;
      pair.agentEar.also = undefined;
      const { near: next, far } = await pair.join();
      next.write(bytesOf("still here"));
      await far.received(10);
      next.abort();
    });

    test("the agent learns who calls, as far as the transport promises", async (pair) => {
      const callers = ["192.0.2.7", ...kind.ipv6 ? ["2001:db8::7"] : []];
      for (const address of callers) {
        const caller = { address, port: 54_321, serverName: "a.test" };
        const { near, far } = await pair.join(caller);
        // SniTun's versions 0 and 1 carry an IPv4 address, 2 any.
        const seen = far.stream.caller;
        assert.deepEqual(
          kind.fullCaller ? seen : { address: seen.address },
          kind.fullCaller ? caller : { address },
        );
        near.abort();
        await far.sawClose;
      }
    });

    test("many streams at once get every byte, each its own", async (pair) => {
      const exchanges = Array.from({ length: 60 }, async (_, i) => {
        const near = pair.edge.open({ address: "192.0.2.7" });
        const question = pattern(1 + i * 1117, i + 1);
        const watched = new WatchedStream(near);
        watched.write(question);
        await watched.received(question.length);
        assert.equal(watched.hash, hashOf(question));
        watched.abort();
        await watched.sawClose;
      });
      const serve = (async () => {
        let served = 0;
        while (served < exchanges.length) {
          await pair.agentEar.until(() => pair.agentEar.streams.length > served);
          const stream = pair.agentEar.streams[served++]!;
          stream.attach({
            data: (chunk) => void stream.write(chunk),
            end() {},
            drain() {},
            close() {},
          });
        }
      })();
      await Promise.all([...exchanges, serve]);
      await pair.agentEar.until(() => pair.agent.streams === 0);
    });

    test("the agent opens streams too, beside the edge's", async (pair) => {
      const [ours, theirs] = await Promise.all([pair.joinFromAgent(), pair.join()]);
      assert.equal(ours.far.stream.caller.address, "0.0.0.0");
      const [up, down] = [pattern(MiB, 1), pattern(MiB, 2)];
      for (const { near, far } of [ours, theirs]) {
        near.write(up);
        near.closeWrite();
        await far.received(up.length);
        far.write(down);
        far.closeWrite();
      }
      for (const { near, far } of [ours, theirs]) {
        await Promise.all([near.sawClose, far.sawClose]);
        assert.deepEqual([near.hash, far.hash], [hashOf(down), hashOf(up)]);
        near.assertOver();
        far.assertOver();
      }
      const reset = await pair.joinFromAgent();
      reset.far.abort(new SallyportError("access_denied", "Cannot open stream", { side: "peer" }));
      await reset.near.sawClose;
      assert.equal(codeSeen(reset.near), kind.reasons ? "access_denied" : undefined);
    });

    if (kind.halfClose) {
      test("each direction ends by itself, the visitor's first or the endpoint's", async (pair) => {
        for (const first of ["near", "far"] as const) {
          const joined = await pair.join();
          const [ender, other] = first === "near" ? [joined.near, joined.far] : [joined.far, joined.near];
          ender.write(bytesOf("question"));
          ender.closeWrite();
          await other.sawEnd;
          assert.equal(other.text, "question");
          const answer = pattern(MiB, 3);
          other.write(answer);
          other.closeWrite();
          await Promise.all([ender.sawClose, other.sawClose]);
          assert.equal(ender.hash, hashOf(answer));
          ender.assertOver();
          other.assertOver();
        }
      });
    } else {
      test("the answer comes after a visitor's end, and the endpoint's end is the last", async (pair) => {
        const { near, far } = await pair.join();
        near.write(bytesOf("question"));
        near.closeWrite();
        await far.received(8);
        const answer = pattern(MiB, 3);
        far.write(answer);
        far.closeWrite();
        await Promise.all([near.sawClose, far.sawClose]);
        assert.equal(near.hash, hashOf(answer));
        near.assertOver();
        far.assertOver();
      });
    }

    test("an abort ends both directions at both ends", async (pair) => {
      for (const side of ["near", "far"] as const) {
        const joined = await pair.join();
        const [one, other] = side === "near" ? [joined.near, joined.far] : [joined.far, joined.near];
        one.write(bytesOf("x"));
        await other.received(1);
        const reason = new SallyportError("endpoint_unreachable", "Cannot reach endpoint", { side: "peer" });
        one.abort(reason);
        await Promise.all([one.sawClose, other.sawClose]);
        one.assertOver(reason);
        assert.equal(other.closes, 1);
        assert.deepEqual(other.wrong, []);
        assert.equal(codeSeen(other), kind.reasons ? "endpoint_unreachable" : undefined);
        other.write(bytesOf("into the void"));
      }
    });

    test("a stream that is never attached costs its neighbours nothing", async (pair) => {
      const waiting = new WatchedStream(pair.edge.open({ address: "192.0.2.7" }));
      waiting.write(pattern(10_000, 1));
      await pair.agentEar.until(() => pair.agentEar.streams.length === 1);
      const { near, far } = await pair.join();
      near.write(bytesOf("hello"));
      await far.received(5);
      // What came before it was attached has been kept for it.
      const late = new WatchedStream(pair.agentEar.streams[0]!);
      await late.received(10_000);
      assert.equal(late.hash, hashOf(pattern(10_000, 1)));
    });

    if (kind.stalledMaxBytes < Infinity) {
      test("a reader that takes nothing stops its writer, in bounded memory, and gets all in the end", async (pair) => {
        const { near, far } = await pair.join();
        far.pause();
        const bytes = pattern(256 * 1024, 9);
        let sent = 0;
        // Writes as far as the contract allows; neighbours' exchanges say when things have come to rest.
        let open = true;
        near.onDrain = () => void (open = true);
        for (let quiet = 0; quiet < 3;) {
          const before = sent;
          while (open && sent < 64 * MiB) {
            sent += bytes.length;
            open = near.write(bytes);
          }
          const neighbour = await pair.join();
          neighbour.near.write(bytesOf("ping"));
          await neighbour.far.received(4);
          neighbour.far.write(bytesOf("pong"));
          await neighbour.near.received(4);
          neighbour.near.abort();
          quiet = sent === before ? quiet + 1 : 0;
        }
        assert.ok(sent < 64 * MiB, "the writer was stopped");
        assert.equal(far.byteLength, 0);
        const held = sent - near.stream.bufferedBytes;
        assert.ok(held <= kind.stalledMaxBytes + 2 * MiB, `the other side holds ${held} bytes`);
        assert.ok(near.stream.bufferedBytes <= 13 * MiB);
        far.resume();
        await far.received(sent);
        const { near: after, far: there } = await pair.join();
        after.write(bytesOf("still here"));
        await there.received(10);
      });
    }

    test("what is released ends in order once its bytes are out", async (pair) => {
      const { near, far } = await pair.join();
      const bytes = pattern(MiB, 4);
      far.write(bytes);
      far.release();
      await near.sawEnd;
      assert.equal(near.hash, hashOf(bytes));
      near.closeWrite();
      await Promise.all([near.sawClose, far.sawClose]);
      near.assertOver();
    });

    test("a session that is closed ends its streams with the reason, at both ends", async (pair) => {
      const { near, far } = await pair.join();
      pair.edge.close(
        new SallyportError("token_expired", "Cannot keep session: its token has expired", { side: "peer" }),
      );
      await Promise.all([near.sawClose, far.sawClose]);
      near.assertOver("token_expired");
      assertCode(far.closeError, kind.endReasons ? "token_expired" : "connection_lost");
      assert.equal(pair.edgeEar.endedWith?.code, "token_expired");
      await pair.agentEar.until(() => pair.agentEar.endedWith !== undefined);
      assert.throws(() => pair.edge.open({ address: "192.0.2.7" }), { code: "token_expired" });
    });

    test("a session whose connection breaks says so, and so do its streams", async (pair) => {
      const { near, far } = await pair.join();
      pair.cut();
      await Promise.all([near.sawClose, far.sawClose]);
      near.assertOver("connection_lost");
      far.assertOver("connection_lost");
      for (const ear of [pair.edgeEar, pair.agentEar]) {
        await ear.until(() => ear.endedWith !== undefined);
        assert.equal(ear.endedWith?.code, "connection_lost");
      }
    }, true);

    test("an edge that goes away opens nothing more, and its streams finish", async (pair) => {
      const { near, far } = await pair.join();
      const reason = new SallyportError("shutdown", "Cannot open stream: the edge is shutting down", {
        side: "local",
      });
      pair.edge.goAway(reason);
      assert.throws(() => pair.edge.open({ address: "192.0.2.7" }), reason);
      if (kind.goAway) {
        await pair.agentEar.until(() => pair.agentEar.wentAway !== undefined);
        assert.equal(pair.agentEar.wentAway, "shutdown");
      }
      const bytes = pattern(MiB, 6);
      near.write(bytes);
      await far.received(bytes.length);
      assert.equal(far.hash, hashOf(bytes));
      assert.equal(pair.edgeEar.endedWith, undefined);
    });

    if (kind.goAway) {
      test("an agent that goes away gets no new streams", async (pair) => {
        const { near, far } = await pair.join();
        pair.agent.goAway(
          new SallyportError("shutdown", "Cannot open stream: the agent is shutting down", { side: "local" }),
        );
        await pair.edgeEar.until(() => pair.edgeEar.wentAway !== undefined);
        assert.throws(() => pair.edge.open({ address: "192.0.2.7" }), { code: "shutdown" });
        near.write(bytesOf("goes on"));
        await far.received(7);
      });
    }
  });
}
