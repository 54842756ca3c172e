/**
 * What the mutation run covers: the source of each room and the tests that must notice its faults.
 *
 * @module
 */

/** A part of the source and the tests that watch over it. */
export interface Room {
  readonly name: string;
  /** Folders and files. */
  readonly sources: readonly string[];
  readonly tests: readonly string[];
}

/**
 * The rooms, in the order of the report. Their tests stand on the network in memory and on virtual time: one that a busy
 * machine makes fail would pass for a test that notices.
 */
export const ROOMS: readonly Room[] = [
  {
    name: "mux",
    sources: ["src/protocol/mux"],
    tests: ["tests/protocol/mux", "tests/transport/quic/session_test.ts", "tests/transport/sealed"],
  },
  {
    name: "curve",
    sources: ["src/protocol/curve"],
    tests: [
      "tests/protocol/curve",
      "tests/transport/curve/curve_test.ts",
      "tests/transport/curve/socket_driver_test.ts",
    ],
  },
  {
    name: "handshake",
    sources: [
      "src/protocol/handshake",
      "src/protocol/records",
      "src/transport/client_handshake.ts",
      "src/transport/server_handshake.ts",
      "src/transport/splice.ts",
    ],
    tests: [
      "tests/protocol/handshake",
      "tests/protocol/records",
      "tests/transport/handshake_test.ts",
      "tests/transport/login_test.ts",
      "tests/transport/sealed",
      "tests/transport/splice_unit_test.ts",
      "tests/transport/splice_test.ts",
    ],
  },
  {
    name: "edge",
    sources: ["src/edge"],
    tests: ["tests/edge", "tests/tunnel/edge_agent_test.ts", "tests/tunnel/ports"],
  },
  {
    name: "wire",
    sources: ["src/wire", "src/protocol/token"],
    tests: ["tests/wire", "tests/protocol/token", "tests/protocol/curve"],
  },
];

/** A fault written by hand, which the tests must notice whatever the sample is. */
export interface NamedFault {
  readonly path: string;
  /** Occurs once in the file. */
  readonly find: string;
  readonly replace: string;
}

/** The six faults that survived the first trial by hand (issue 10). */
export const NAMED_FAULTS: readonly NamedFault[] = [
  {
    path: "src/protocol/curve/recovery/rtt.ts",
    find: "0.875 * this.smoothedMs + 0.125 * adjusted",
    replace: "0.5 * this.smoothedMs + 0.5 * adjusted",
  },
  {
    path: "src/protocol/curve/recovery/rtt.ts",
    find: "2 ** Math.min(count, 10)",
    replace: "1",
  },
  {
    path: "src/protocol/curve/recovery/rtt.ts",
    find: "Math.min(ackDelayMs, MAX_ACK_DELAY_MS)",
    replace: "ackDelayMs",
  },
  {
    path: "src/protocol/curve/path.ts",
    find: "candidate.tries === 0 || ",
    replace: "",
  },
  {
    path: "src/protocol/mux/endings.ts",
    find: "stuck && empty",
    replace: "stuck",
  },
  {
    path: "src/transport/splice.ts",
    find: " || this.#options.stream.peerPaused === true",
    replace: "",
  },
];
