/**
 * A stream that notes what is asked of it, and whose events the test causes.
 *
 * @module
 */
import type { Bytes } from "../../src/bytes/bytes.ts";
import type { ByteStream, ByteStreamHandler } from "../../src/runtime/port.ts";

/** The calls that say nothing but their name; a test adds what it has to know of the others. */
export abstract class RecordedStream implements ByteStream {
  readonly calls: string[] = [];
  handler!: ByteStreamHandler;
  bufferedBytes = 0;

  attach(handler: ByteStreamHandler): void {
    this.handler = handler;
  }
  abstract write(chunk: Bytes): boolean;
  abstract abort(error?: Error): void;
  closeWrite(): void {
    this.calls.push("closeWrite");
  }
  release(): void {
    this.calls.push("release");
  }
  pause(): void {
    this.calls.push("pause");
  }
  resume(): void {
    this.calls.push("resume");
  }
}
