/**
 * A curve server behind its handshake, as a state machine: what an admitted client puts into its packets, and packets that
 * anybody may send.
 *
 * @module
 */
import type { Bytes } from "../../src/bytes/bytes.ts";
import type { Sodium } from "../../src/crypto/sodium.ts";
import { CurveConnection } from "../../src/protocol/curve/connection.ts";
import { PacketKey } from "../../src/protocol/curve/key_schedule.ts";
import { curveOptions } from "../../src/protocol/curve/options.ts";
import { dataEnvelope } from "../../src/protocol/curve/sender.ts";
import { FrameType, FrameWriter, writeControl, writeStreamHead } from "../../src/wire/curve/curve_frame.ts";
import { writeDataHead } from "../../src/wire/curve/curve_packet.ts";
import type { SallyportError } from "../../src/errors.ts";
import { pattern, seededSource } from "../support/seeded.ts";
import type { Target } from "./target.ts";

const PEER = { host: "10.9.9.9", port: 9 };
const ID = new Uint8Array(8);
const PACKET_MAX_BYTES = 16_384;
/** What a client may make a server send for each of its packets: its window is ten at first. */
const SENT_PER_PACKET_MAX = 32;

/** Frames of a packet. */
function frames(write: (writer: FrameWriter) => void): Bytes {
  const writer = new FrameWriter(new Uint8Array(2_000));
  writer.reset(2_000);
  write(writer);
  return writer.written.slice();
}

/** The target: each piece of an input is the frames of a packet. */
export function curveSession(sodium: Sodium): Target {
  const slot: Bytes = new Uint8Array(PACKET_MAX_BYTES);
  const packet: Bytes = new Uint8Array(PACKET_MAX_BYTES);
  const plain: Bytes = new Uint8Array(PACKET_MAX_BYTES);
  return {
    name: "curve_session",
    cutsMatter: true,
    seeds: [
      frames((writer) => {
        writeControl(writer, FrameType.params, 1_000, 1_000, 10, 1_452);
        writeStreamHead(writer, 0, 0, 0, true);
      }),
      frames((writer) => {
        writeStreamHead(writer, 2, 0, 5, true);
        writer.take(5).fill(1);
        writeControl(writer, FrameType.maxData, 100_000);
        writeControl(writer, FrameType.maxStreamData, 2, 100_000);
        writeControl(writer, FrameType.reset, 4, 1, 10);
      }),
    ],
    run(pieces) {
      let sent = 0;
      let closed: SallyportError | undefined;
      let opened = 0;
      let delivered = 0;
      const toServer = new PacketKey(sodium, pattern(44, 1));
      const toClient = new PacketKey(sodium, pattern(44, 2));
      const connection = new CurveConnection({
        role: "server",
        options: curveOptions({ windowBytes: 10_000, connectionWindowBytes: 15_000, streamsMax: 4 }),
        io: { slot: () => slot, send: () => void sent++, wake: () => {}, plain, random: seededSource(1) },
        peer: PEER,
        envelope: dataEnvelope(toClient, ID),
        nowMs: 0,
      });
      connection.handler = {
        introduced: () => connection.admit(new Uint8Array(0)),
        stream(stream) {
          opened++;
          stream.attach({
            data: (chunk) => void (delivered += chunk.length),
            end() {},
            drain() {},
            close() {},
          });
          stream.write(pattern(100, 1));
        },
        streamClosed() {},
        closed: (error) => void (closed = error),
      };
      connection.confirm(dataEnvelope(toClient, ID), toServer);
      // A seed alone says PARAMS; whatever comes, the client is admitted first.
      for (const [number, piece] of [this.seeds[0]!, ...pieces].entries()) {
        if (piece.length === 0) continue;
        const head = writeDataHead(packet, ID, number);
        const size = toServer.seal(packet, head, piece);
        connection.receive(packet.subarray(0, size), PEER, number);
        connection.turn(number);
        if (sent > SENT_PER_PACKET_MAX * (number + 1)) throw new Error(`${sent} packets for ${number + 1}`);
      }
      if (closed?.code === "internal") throw closed;
      return closed === undefined ? `${opened} streams, ${delivered} bytes` : `closed ${closed.message}`;
    },
  };
}
