/** The turns of a socket's connections: none takes all of it, and a socket that is full is waited for. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { CurveConnection } from "../../../src/protocol/curve/connection.ts";
import { SocketIo } from "../../../src/transport/curve/socket_driver.ts";
import type { DatagramSocket } from "../../../src/runtime/port.ts";
import { VirtualClock } from "../../support/virtual_clock.ts";
import { seededSource } from "../../support/seeded.ts";

const TO = { host: "192.0.2.1", port: 4500 };

/** A socket with hands for the test, and connections that send some datagrams in each turn. */
function stage(perTurn: number) {
  const clock = new VirtualClock({ nowMs: 1_000 });
  const turns: CurveConnection[] = [];
  let sent = 0;
  const state = { waiting: 0, takes: Infinity };
  const io = new SocketIo(clock, seededSource(1), 1_452, (connection) => {
    turns.push(connection);
    for (let i = 0; i < perTurn; i++) {
      io.slot();
      io.send(100, TO);
    }
  });
  const socket: DatagramSocket = {
    address: TO,
    get waiting() {
      return state.waiting;
    },
    send: () => true,
    sendMany: (_data, _to, count) => {
      const taken = Math.min(count, state.takes);
      sent += taken;
      return taken;
    },
    close: () => {},
  };
  io.socket = socket;
  const connections = Array.from({ length: 300 }, () => ({ awake: false }) as CurveConnection);
  return { clock, io, turns, connections, state, sent: () => sent };
}

describe("SocketIo: turns on a socket", () => {
  it("end after a measure of datagrams, so that others are heard in between", () => {
    const { clock, io, turns, connections, sent } = stage(8);
    for (const connection of connections) io.wake(connection);
    const heard: number[] = [];
    let before = 0;
    // Each turn is an event; what comes in is handled between them.
    while (turns.length < connections.length) {
      clock.runUntil(() => sent() > before, 1);
      heard.push(sent() - before);
      before = sent();
    }
    assert.equal(sent(), 300 * 8);
    assert.ok(Math.max(...heard) <= 64 + 8, `${Math.max(...heard)} at once`);
    assert.deepEqual(turns, connections, "each once, in the order of asking");
  });

  it("come round: who asks again waits for those who have asked before", () => {
    const { clock, io, turns, connections } = stage(64);
    const [first, second, third] = connections as [CurveConnection, CurveConnection, CurveConnection];
    for (const one of [first, second, third]) io.wake(one);
    clock.runUntil(() => turns.length === 1, 1);
    io.wake(first);
    io.wake(first);
    clock.run(1);
    assert.deepEqual(turns.map((one) => connections.indexOf(one)), [0, 1, 2, 0]);
  });

  it("wait while the socket has datagrams that the system hasn't taken", () => {
    const { clock, io, turns, connections, state } = stage(1);
    state.waiting = 3;
    for (const connection of connections) io.wake(connection);
    clock.run(50);
    assert.equal(turns.length, 0);
    state.waiting = 0;
    clock.run(5);
    assert.equal(turns.length, 300);
    assert.equal(io.refused, 0);
  });

  it("go on after a socket that took less than it was given, and count what was lost", () => {
    const { clock, io, turns, connections, state, sent } = stage(40);
    state.takes = 20;
    io.wake(connections[0]!);
    io.wake(connections[1]!);
    clock.runUntil(() => io.refused > 0, 1);
    state.takes = Infinity;
    clock.run(5);
    assert.equal(turns.length, 2);
    assert.ok(io.refused > 0 && sent() + io.refused === 80, `${sent()} sent, ${io.refused} refused`);
  });
});
