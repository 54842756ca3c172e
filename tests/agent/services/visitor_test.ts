/** A visitor's stream at an agent: its ClientHello read and put back, its connector's calls, its service's counts. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Visitor } from "../../../src/agent/services/visitor.ts";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import { concat } from "../../../src/bytes/bytes.ts";
import { SallyportError } from "../../../src/errors.ts";
import type { ByteStreamHandler } from "../../../src/runtime/port.ts";
import type { SessionStream } from "../../../src/transport/port.ts";
import { clientHello } from "../../support/client_hello.ts";
import { RecordedStream } from "../../support/recorded_stream.ts";

const NAME = "home.example.org";
const HELLO: Bytes = new Uint8Array(clientHello(NAME));
const MORE: Bytes = new TextEncoder().encode("and more");

/** A session's stream whose events the test causes. */
class Inner extends RecordedStream implements SessionStream {
  readonly caller = { address: "192.0.2.7", port: 5 };
  readonly peerPaused = true;

  override attach(handler: ByteStreamHandler): void {
    this.calls.push("attach");
    super.attach(handler);
  }
  write(chunk: Bytes): boolean {
    this.calls.push(`write ${chunk.length}`);
    return false;
  }
  abort(error?: Error): void {
    this.calls.push(`abort ${error?.message ?? ""}`);
    queueMicrotask(() => this.handler.close(error));
  }
}

/** A visitor, and what its reception and its service hear of it. */
function arrive() {
  const inner = new Inner();
  const heard: string[] = [];
  const visitor: Visitor = new Visitor(inner, {
    named: (_, name) => {
      heard.push(`named ${name}`);
      visitor.enter({ left: (_, error) => heard.push(`left ${error?.message ?? ""}`) }, {
        ...inner.caller,
        serverName: name,
      }, "192.0.2.7");
    },
    refused: (_, alert, error) => heard.push(`refused ${alert} ${error.code}`),
    gone: () => heard.push("gone"),
  }, 1_000);
  return { inner, visitor, heard };
}

/** A connector's handler: everything that it gets. */
class Taken implements ByteStreamHandler {
  readonly chunks: Bytes[] = [];
  readonly events: string[] = [];

  data(chunk: Bytes): void {
    this.chunks.push(chunk.slice());
  }
  end(): void {
    this.events.push("end");
  }
  drain(): void {
    this.events.push("drain");
  }
  close(error?: Error): void {
    this.events.push(`close ${error?.message ?? ""}`);
  }
}

/** Until everything that waits in microtasks has run. */
const settled = () => new Promise((resolve) => setTimeout(resolve, 0));

describe("Visitor", () => {
  it("reads the name wherever the ClientHello is cut, and gives its bytes to the connector first", async () => {
    for (let cut = 0; cut <= HELLO.length; cut++) {
      const { inner, visitor, heard } = arrive();
      visitor.readHello();
      if (cut > 0) inner.handler.data(HELLO.slice(0, cut));
      if (cut < HELLO.length) {
        assert.deepEqual(heard, []);
        inner.handler.data(HELLO.slice(cut));
      }
      assert.deepEqual([heard, inner.calls], [[`named ${NAME}`], ["attach", "pause"]]);
      assert.equal(visitor.caller.serverName, NAME);
      const taken = new Taken();
      visitor.attach(taken);
      assert.equal(taken.chunks.length, 0, "nothing within the connector's call");
      await settled();
      assert.equal(inner.calls.at(-1), "resume");
      inner.handler.data(MORE);
      inner.handler.drain();
      inner.handler.end();
      inner.handler.close();
      assert.deepEqual(concat(taken.chunks), concat([HELLO, MORE]));
      assert.deepEqual(taken.events, ["drain", "end", "close "]);
      assert.equal(visitor.bytesIn, HELLO.length + MORE.length);
      assert.deepEqual(heard, [`named ${NAME}`, "left "]);
    }
  });

  it("is a plain stream where the session carries the name, and counts what is written", () => {
    const { inner, visitor, heard } = arrive();
    const taken = new Taken();
    visitor.pause();
    visitor.resume();
    visitor.attach(taken);
    inner.handler.data(MORE);
    assert.equal(visitor.write(MORE), false);
    assert.deepEqual([visitor.bytesIn, visitor.bytesOut, visitor.peerPaused], [8, 8, true]);
    assert.deepEqual(inner.calls, ["pause", "resume", "attach", "write 8"]);
    assert.deepEqual(heard, []);
  });

  it("says what is wrong with a ClientHello, and passes the rest to whoever turns it away", () => {
    const { inner, visitor, heard } = arrive();
    visitor.readHello();
    inner.handler.data(Uint8Array.of(0x16, 3, 1, 0, 0));
    assert.deepEqual(heard, ["refused 50 hello_invalid"]);
    const taken = new Taken();
    visitor.attach(taken);
    inner.handler.close();
    assert.deepEqual(taken.events, ["close "]);
  });

  it("is gone if it ends or breaks off before its name is known, or is late", async () => {
    for (const leave of ["end", "close", "late"] as const) {
      const { inner, visitor, heard } = arrive();
      visitor.readHello();
      inner.handler.data(HELLO.slice(0, 50));
      if (leave === "late") visitor.late();
      else if (leave === "end") inner.handler.end();
      else inner.handler.close(new SallyportError("connection_lost", "lost", { side: "network" }));
      await settled();
      assert.deepEqual(heard, ["gone"], leave);
      if (leave === "late") assert.match(inner.calls.at(-1)!, /^abort .*no complete ClientHello within 5 s$/);
    }
  });

  it("tells a connector that attaches later that it has left, without the bytes", async () => {
    const { inner, visitor, heard } = arrive();
    visitor.readHello();
    inner.handler.data(HELLO);
    inner.handler.close(new Error("gone"));
    assert.deepEqual(heard, [`named ${NAME}`]);
    const taken = new Taken();
    visitor.attach(taken);
    await settled();
    assert.deepEqual([taken.events, taken.chunks, heard.at(-1)], [["close gone"], [], "left gone"]);
  });

  it("tells its service of its end though its connector gives it up, before or after it has left", async () => {
    for (const first of ["leaves", "stays"] as const) {
      for (const how of ["abort", "release"] as const) {
        const { inner, visitor, heard } = arrive();
        visitor.readHello();
        inner.handler.data(HELLO);
        if (first === "leaves") inner.handler.close();
        visitor[how]();
        if (first === "stays" && how === "release") inner.handler.close();
        await settled();
        // A stream ends once, whatever is done to it afterwards.
        assert.deepEqual(heard, [`named ${NAME}`, "left "], `${first}, ${how}`);
      }
    }
  });

  it("waits with the ClientHello while its connector has paused it", async () => {
    const { inner, visitor } = arrive();
    visitor.readHello();
    inner.handler.data(HELLO);
    const taken = new Taken();
    visitor.pause();
    visitor.attach(taken);
    await settled();
    assert.equal(taken.chunks.length, 0);
    visitor.resume();
    await settled();
    assert.deepEqual(taken.chunks, [HELLO]);
    assert.deepEqual(inner.calls, ["attach", "pause", "resume"]);
  });

  it("stays paused if its connector pauses it on the ClientHello", async () => {
    const { inner, visitor } = arrive();
    visitor.readHello();
    inner.handler.data(HELLO);
    const taken = new Taken();
    visitor.attach({
      data: () => visitor.pause(),
      end() {},
      drain() {},
      close: (error) => taken.close(error),
    });
    await settled();
    assert.deepEqual(inner.calls, ["attach", "pause", "pause"]);
  });

  it("ends if its connector throws on the ClientHello", async () => {
    const { inner, visitor, heard } = arrive();
    visitor.readHello();
    inner.handler.data(HELLO);
    visitor.attach({
      data: () => {
        throw new Error("planted");
      },
      end() {},
      drain() {},
      close() {},
    });
    await settled();
    assert.match(inner.calls.join(), /abort Internal error \(stream\): planted/);
    assert.equal(heard.at(-1), "left Internal error (stream): planted");
  });
});
