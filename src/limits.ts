/**
 * Every cap and time-out of the project, each with its reason. Durations in milliseconds, sizes in bytes.
 *
 * @module
 */

const KiB = 1024;
const MiB = 1024 * KiB;

/** A connection must show what it is, and a visitor its whole ClientHello, by then; absolute, never extended. */
export const HELLO_DEADLINE_MS = 5_000;
/** An agent's token must be complete by then; longer than a hello because a hub's uplink may be slow. */
export const TOKEN_DEADLINE_MS = 10_000;
/**
 * A token has no end mark. One that could be complete, opens with no key and isn't continued for this long is
 * refused without waiting for the token's deadline.
 */
export const TOKEN_QUIET_MS = 1_000;
/** The challenge's answer must come by then (spec: 60 s). */
export const CHALLENGE_DEADLINE_MS = 60_000;
/** Largest ClientHello with its record headers. Real ones stay under 2 KiB; post-quantum and long ALPN lists under 7. */
export const HELLO_MAX_BYTES = 64 * KiB;
/** Largest token: hundreds of aliases. */
export const TOKEN_MAX_BYTES = 16 * KiB;
/** A PROXY v1 line is at most 107 bytes (its spec); a v2 header may carry TLVs, of which a kilobyte is plenty. */
export const PROXY_V2_MAX_BYTES = 1 * KiB;
/** DNS: a name has at most 253 characters in text. */
export const HOSTNAME_MAX_LENGTH = 253;
/** A connection of which nothing more is wanted waits this long for the peer's end, once everything is written. */
export const LINGER_MS = 5_000;

/** Until a TCP connection to an edge or an endpoint stands. */
export const DIAL_TIMEOUT_MS = 10_000;
/** `--transport auto`: the next transport is tried when the one before it hasn't got there in this time (RFC 8305, section 5). */
export const ATTEMPT_DELAY_MS = 250;
/**
 * `--transport auto`: one attempt at a time shows its token; one that hears nothing for this long makes room for another
 * that is ready. A lost packet may be sent twice more by then.
 */
export const TURN_PATIENCE_MS = 3_000;
/** `--transport auto`: what worked in a network is tried first for this long, then its better ones have a chance again. */
export const TRANSPORT_REMEMBERED_MS = 24 * 3_600_000;
/** `--transport auto`: networks remembered; the oldest is forgotten beyond it. */
export const NETWORKS_REMEMBERED_MAX = 64;
/** First and largest delay between an agent's attempts; the delay is drawn from 0 to the current one (full jitter). */
export const RECONNECT_FIRST_MS = 500;
export const RECONNECT_MAX_MS = 60_000;
/** An answer of the session master must be complete by then. */
export const MASTER_TIMEOUT_MS = 15_000;

/** The agent pings this often, and the pong must come within PONG_DEADLINE_MS (spec: 50 s and 90 s). */
export const PING_INTERVAL_MS = 50_000;
export const PONG_DEADLINE_MS = 90_000;
/** Sessions and visitors without a byte either way are closed after 90 to 120 s: found idle at four ticks in a row. */
export const IDLE_TICK_MS = 30_000;
export const IDLE_TICKS = 4;
/** SniTun has no FIN: after a visitor's FIN the answer may go on, until this long has passed without a byte of it. */
export const HALF_CLOSE_GRACE_MS = 10_000;
/**
 * The same where the visitor's FIN follows an answer: it has most likely gone, and a plain FIN a visit mustn't fill the
 * session with streams that wait.
 */
export const HALF_CLOSE_ANSWERED_MS = 2_000;
/** A replaced session's streams may finish for this long. */
export const REPLACED_GRACE_MS = 30_000;
/** At shutdown, streams may finish for this long. */
export const SHUTDOWN_GRACE_MS = 5_000;
/** A signal to stop that follows another one so soon is the same Ctrl-C, passed on by `bun run` or npx. */
export const SIGNAL_ECHO_MS = 300;
/** A session whose token has expired is found within this time. */
export const TOKEN_RECHECK_MS = 5_000;
/** The agent asks for a fresh token when this part of the old one's life is over. */
export const TOKEN_RENEW_AT = 0.8;
/** A session that lasted this long wasn't refused: the delay before the next attempt is the first one again. */
export const SESSION_SETTLED_MS = 10_000;

/** Largest payload of a DATA frame that we send: what a neighbour waits for at most. */
export const FRAME_MAX_SEND_BYTES = 64 * KiB;
/** Largest payload of a DATA frame that we accept: the reference sends up to 4.2 MB in one. */
export const FRAME_MAX_RECEIVE_BYTES = 8 * MiB;
/** NEW from version 2 on carries an address in one or two cipher blocks. */
export const NEW_MIN_PAYLOAD_BYTES = 16;
export const NEW_MAX_PAYLOAD_BYTES = 32;
/** A peer that sends this much on a stream after it has seen a PAUSE loses the stream. */
export const PAUSE_OVERRUN_BYTES = 8 * MiB;
/**
 * The same before it can be known to have seen it. What both kernels hold on the way is sent already: 36 MiB where
 * Linux is set up for long fat links, of which a stream that is served meanwhile gets some through.
 */
export const PAUSE_UNSEEN_BYTES = 24 * MiB;
/** What one session may hold of received bytes, over all streams, before its socket isn't read any more. */
export const SESSION_RECEIVE_BUDGET_BYTES = 32 * MiB;
/**
 * What one session may hold of bytes to send; beyond it the stream that overflows is reset. Bun's sockets bring up to
 * 512 KiB before they can be paused, and some hundreds of visitors may be uploading when an agent's link stalls.
 */
export const SESSION_SEND_BUDGET_BYTES = 128 * MiB;
/** A session whose budget stays used up for this long loses its fullest stream, so that the others go on. */
export const SESSION_STALL_MS = 10_000;
/** A session whose peer reads nothing for this long, with bytes waiting, is closed. */
export const SESSION_WRITE_STALL_MS = 90_000;
/**
 * What one direction of a session may have on its way, at least and at most: a neighbour's small frame waits behind it.
 * Between the two it follows the path (mux/flight.ts).
 */
export const FLIGHT_MIN_BYTES = 96 * KiB;
export const FLIGHT_MAX_BYTES = 32 * MiB;
/** The path's round trip is measured anew this often. */
export const FLIGHT_PROBE_MS = 10_000;
/** A peer that answers no ping for this long isn't waited for: TCP alone limits what is on its way to it. */
export const FLIGHT_PATIENCE_MS = 1_000;
/** Control frames, pongs too, that may wait for a peer that doesn't read: some of each kind for every stream. */
export const CONTROL_FRAMES_QUEUED_MAX = 16_384;
/** Streams of one session. */
export const STREAMS_PER_SESSION_MAX = 4_096;
/** Credit dialect: longest body of a frame; our DATA has at most FRAME_MAX_SEND_BYTES. */
export const CREDIT_FRAME_MAX_BYTES = 64 * KiB;
/**
 * Credit dialect: a session's least window of bytes on their way. Larger than SniTun's, since the transport below may
 * hold a whole record at either end, of which nothing has been read yet.
 */
export const CREDIT_FLIGHT_MIN_BYTES = 256 * KiB;
/** Credit dialect: what a session may send before it hears more; a part of the dialect, both ends assume it. */
export const CREDIT_SESSION_FIRST_BYTES = 1 * MiB;
/** Credit dialect: the same for a stream: a hundred visitors who stall from the start fit into a session's budget. */
export const CREDIT_STREAM_FIRST_BYTES = 128 * KiB;
/** Credit dialect: what a stream may have under way at most once it has shown that it takes bytes. */
export const CREDIT_STREAM_WINDOW_BYTES = 4 * MiB;
/** A frame of at least this size counts for throttling (spec). */
export const THROTTLED_FRAME_BYTES = 8 * KiB;

/**
 * Connections that haven't been routed or admitted yet; beyond it new ones are dropped. A reconnect storm of every agent
 * fits, and a process may have about this many files.
 */
export const PENDING_CONNECTIONS_MAX = 16_384;
/** Of those, from one address (an IPv6 /64 counts as one): a single source can't keep the others out. */
export const PENDING_PER_SOURCE_MAX = 8_192;
/** Agents of one UDP socket of the curve transport, those included that aren't let in yet. */
export const CURVE_CONNECTIONS_MAX = 65_536;
/**
 * A stream of a curve session whose head isn't whole by then is reset. Heads come in the first packet; this leaves
 * time to send that one again over a bad path.
 */
export const CURVE_HEAD_TIMEOUT_MS = 15_000;
/**
 * Handshakes of the curve transport in a minute that come to nothing, from one address (an IPv6 /64 counts as one); beyond
 * it the address's handshakes are dropped for the rest of the minute. Each costs a tenth of a millisecond on the curve, and up to
 * one where a token has to be judged: a second of a minute at most.
 */
export const CURVE_FAILURES_PER_SOURCE_MAX = 1_024;
/** Names in one token: its hostname and aliases. */
export const NAMES_PER_SESSION_MAX = 256;
/** More take-overs of one name than this within a minute are flapping; newer sessions are refused until it calms. */
export const TAKEOVERS_PER_MINUTE_MAX = 5;
/** Key material remembered to refuse its second use under aes-gcm; the oldest is forgotten beyond it. */
export const USED_KEYS_MAX = 200_000;

/** Sealed: the first flights and records are padded by up to this much, evenly; one less than a power of two. */
export const SEALED_PADDING_MAX_BYTES = 1_023;
/** Sealed: so many records of each direction are padded, so that no handshake's sizes are alike. */
export const SEALED_PADDED_RECORDS = 8;
/** Sealed: data of one record: a frame of the largest size, and small ones around it. */
export const SEALED_RECORD_MAX_BYTES = 68 * KiB;
/** Sealed: boxes with at least so much in them are worth the start of another cipher; the wire's, both ends assume it. */
export const SEALED_BULK_MIN_BYTES = 4 * KiB;
/** Sealed: a direction's key is replaced behind so many records, 2 GiB at most. */
export const SEALED_REKEY_RECORDS = 32_768;
/** Sealed: an agent's clock may be wrong by this much; first flights are remembered for twice as long. */
export const SEALED_CLOCK_SKEW_S = 3_600;
/** Sealed: first flights remembered at once in each half of that time; the oldest are forgotten beyond it. */
export const SEALED_FLIGHTS_MAX = 200_000;
/** Sealed: who shows nothing of use is dropped at a time drawn from here to there, whatever it sends meanwhile. */
export const SEALED_SILENCE_MIN_MS = 5_000;
export const SEALED_SILENCE_MAX_MS = 20_000;
/** Sealed: an agent waits so long for the edge's answer, and an edge for the agent's login. */
export const SEALED_ANSWER_DEADLINE_MS = 10_000;

/** QUIC: a connection says something this often (snocat's), so that mappings of a NAT stay, */
export const QUIC_KEEP_ALIVE_MS = 5_000;
/** and one that has heard nothing for this long is over (snocat's). */
export const QUIC_IDLE_MS = 30_000;
/**
 * QUIC: streams that a peer may have open at once: a session's, its control stream, and some that are ending. No more of
 * our own may wait until the peer allows them.
 */
export const QUIC_STREAMS_MAX = STREAMS_PER_SESSION_MAX + 512;
/**
 * QUIC: from this share of the streams that an edge may open at its agent, the agent offers some of its own; Bun lets 100
 * be open and allows the next ones when 50 have ended, so that 51 that stay could keep out all others,
 */
export const QUIC_OFFER_SHARE = 1 / 4;
/** and so many offers may wait: as many visitors come at once without a round trip more. */
export const QUIC_OFFERS_MAX = 128;
/** QUIC on Bun: what a peer may send on a stream before it hears more; larger or smaller made no difference. */
export const QUIC_STREAM_WINDOW_BYTES = 1 * MiB;
/** QUIC: kernel buffers of a UDP socket that is ours to set: 5 ms of 6 Gbit/s, during which the program may be busy. */
export const QUIC_SOCKET_BUFFER_BYTES = 4 * MiB;
/** QUIC: connections of one socket, and of one address: as many as Bun counts up to. */
export const QUIC_CONNECTIONS_MAX = 65_535;
/** QUIC: an agent waits so long for the edge's verdict. */
export const QUIC_VERDICT_DEADLINE_MS = 10_000;
/** QUIC: how long an edge's own certificate is good for; its agents look at the fingerprint alone. */
export const EDGE_CERTIFICATE_DAYS = 3_650;
/** QUIC: control frames that may wait for a peer that doesn't read: some thousands of pongs. */
export const QUIC_CONTROL_MAX_BYTES = 256 * KiB;
/** QUIC: what of a peer's reason for closing is shown. */
export const QUIC_REASON_MAX_LENGTH = 128;

/** sodium-tcp: largest body of a PDU (spec; one byte more closes). */
export const PIPE_BODY_MAX_BYTES = 131_070;
/** Text of a FAILED PDU: a line. */
export const PIPE_REASON_MAX_BYTES = 256;
/** sodium-tcp: the client must have authenticated by then, and the server have answered (spec). */
export const PIPE_AUTH_DEADLINE_MS = 10_000;
/** sodium-tcp: a session without a byte of the peer is closed (spec). */
export const PIPE_IDLE_MS = 180_000;
/** sodium-tcp: the first ping, and the range of the gaps behind it (spec). */
export const PIPE_PING_FIRST_MS = 60_000;
export const PIPE_PING_MIN_MS = 60_000;
export const PIPE_PING_MAX_MS = 119_000;
/** sodium-tcp: this many pings without a pong close (spec). */
export const PIPE_PINGS_UNANSWERED_MAX = 3;
/** What a receiver lets a sender of ours have under way: a disk's hiccup at 1 GB/s, and 100 ms of a 500 Mbit/s line. */
export const PIPE_WINDOW_BYTES = 8 * MiB;
/** PDUs that a receiver holds unconfirmed: a client that doesn't wait for answers can't fill the memory with empty ones. */
export const PIPE_UNCONFIRMED_PDUS_MAX = 1_024;
/** Connections of a pipe's receiver that haven't authenticated; beyond it new ones are dropped. */
export const PIPE_PENDING_MAX = 64;
/**
 * Failed authentications from one address (an IPv6 /64 counts as one) within a minute, before its connections are
 * dropped unread.
 */
export const PIPE_FAILURES_PER_MINUTE_MAX = 20;
/** Sessions that a receiver's key remembers so that none is replayed; beyond it the key must be replaced. 3.2 MB on disk. */
export const PIPE_SESSIONS_PER_KEY_MAX = 100_000;
/** Transfers that an edge receives at once: each may hold a window of 8 MiB. */
export const PIPE_TRANSFERS_MAX = 16;
/** The receiver ends: its last words may be read for this long. */
export const PIPE_FAREWELL_MS = 2_000;

/**
 * QUIC without receive back-pressure (Bun): what one stream may keep that nobody has read yet; beyond it the stream ends.
 * A reader that is slower than the sender by more than this loses its stream, so it is as large as can be borne.
 */
export const QUIC_STREAM_UNREAD_MAX_BYTES = 64 * MiB;
/** The same for all streams of one connection. */
export const QUIC_CARRIER_UNREAD_MAX_BYTES = 256 * MiB;
/** The same for all connections of one listener, whoever they are: beyond it each must do with the next figure, */
export const QUIC_LISTENER_UNREAD_MAX_BYTES = 512 * MiB;
/** which those keep that do no harm: some round trips of a fast line. */
export const QUIC_CARRIER_UNREAD_CROWDED_BYTES = 8 * MiB;
/**
 * A QUIC connection that stops is closed so long after its last stream: closing drops what is still on its way. On Bun a
 * socket stays as long, so that what its connections say last gets out.
 */
export const QUIC_FAREWELL_MS = 300;
/** Demand proxy: longest text of a client (spec: 256 bytes). */
export const DEMAND_TEXT_MAX_BYTES = 256;
/** Demand proxy: longest answer of a server: dozens of addresses. */
export const DEMAND_GRANT_MAX_BYTES = 4 * KiB;
/** Demand proxy: the client's text must come by then, and the server's answer, which has to open a port first. */
export const DEMAND_DEADLINE_MS = 10_000;
/**
 * Demand proxy: a visitor's stream to the client must be open by then. Longer than a request's answer may take, since a
 * peer may allow no more streams for a while.
 */
export const DEMAND_OPEN_DEADLINE_MS = 30_000;
/** Demand proxy: a lease that ends is answered by then; the port is free in any case. */
export const DEMAND_FAREWELL_MS = 2_000;
/** Public connections of one lease, those included whose way to the client isn't open yet. */
export const DEMAND_CONNECTIONS_MAX = 1_024;
/**
 * Public connections without a byte either way are closed after so many ticks of IDLE_TICK_MS, two hours as TCP's own
 * keep-alive: SSH and MQTT sessions are quiet for long, and the way to the client tells of its end by itself.
 */
export const DEMAND_IDLE_TICKS = 240;
/** Public ports of one agent's token; a token stays small, and nobody takes a whole range. */
export const PUBLISHED_PORTS_MAX = 16;
/** Ports that one client may hold at once. */
export const DEMAND_LEASES_PER_CLIENT_MAX = 16;

/** The session master: lifetimes of tokens in seconds. */
export const TOKEN_TTL_DEFAULT_S = 24 * 3600;
export const TOKEN_TTL_MIN_S = 10;
export const TOKEN_TTL_MAX_S = 31 * 24 * 3600;
/** Requests with a wrong key from one address in a minute, before 429. */
export const AUTH_FAILURES_PER_MINUTE_MAX = 20;
/** Tokens for one credential in a minute, before 429. */
export const TOKENS_PER_MINUTE_MAX = 600;
/** Body of a request to the master. */
export const MASTER_BODY_MAX_BYTES = 64 * KiB;
/** Addresses of X-Forwarded-For that are looked at, from the end: more proxies than that stand before nobody. */
export const FORWARDED_ADDRESSES_MAX = 16;
/** It must be complete by then, counted from its headers: a body comes in one or two packets. */
export const MASTER_BODY_DEADLINE_MS = 10_000;

/** Tunnels: the longest address that a stream may ask for, in UTF-8 (spec: snocat.md). */
export const TUNNEL_ADDRESS_MAX_BYTES = 2_048;
/** Tunnels: whoever opens a stream must have said what for by then; it is one small packet. */
export const TUNNEL_REQUEST_DEADLINE_MS = 5_000;
/** Tunnels: a service decides by then, a dial to its target included (DIAL_TIMEOUT_MS). */
export const TUNNEL_SERVICE_DEADLINE_MS = 15_000;
/** Tunnels: the opener waits so long for the answer: as long as a service may take, and the way there and back. */
export const TUNNEL_ANSWER_DEADLINE_MS = 20_000;
/** Tunnels: a name is a host's, or little more. */
export const TUNNEL_NAME_MAX_BYTES = 255;
/** Tunnels: a message of an authentication: a token, or a certificate. */
export const TUNNEL_AUTH_MESSAGE_MAX_BYTES = 16 * KiB;
/** Tunnels: the other side's next message must come by then. */
export const TUNNEL_AUTH_STEP_MS = 5_000;
/** Tunnels: an authentication must be through by then, look-ups of an operator's own included. */
export const TUNNEL_AUTH_DEADLINE_MS = 15_000;
/** Tunnels: a refusal may be read for this long before the connection is closed. */
export const TUNNEL_FAREWELL_MS = 2_000;
/** Tunnels: one whose proof has run out is found within this time, if the clock was set meanwhile. */
export const TUNNEL_EXPIRY_CHECK_MS = 60_000;
/** Tunnels: connections of a daemon that aren't authenticated yet; beyond it new ones are closed. */
export const TUNNEL_PENDING_MAX = 1_024;
/** Tunnels: streams that may wait until a tunnel is registered. */
export const TUNNEL_EARLY_STREAMS_MAX = 64;

/** Registry of tunnels: a record lives so long unless it's renewed: a crash is forgotten by then (spec: snocat.md). */
export const REGISTRY_RECORD_TTL_MS = 60_000;
/** Registry of tunnels: the same for names, which find nobody without a record. */
export const REGISTRY_NAME_TTL_MS = 600_000;
/** Registry of tunnels: entries are renewed this often, so that two attempts may fail. */
export const REGISTRY_RENEW_MS = 20_000;
/** Registry of tunnels: an attempt that failed is made again after this. */
export const REGISTRY_RETRY_MS = 2_000;
/** Registry of tunnels: Redis answers in a millisecond, or is in trouble. */
export const REGISTRY_TIMEOUT_MS = 5_000;

/** SniTun's queue figures, per stream; each has an environment variable of the reference's name (see config.ts). */
export interface QueueLimits {
  /** Received and not yet taken; beyond it the stream is closed. */
  readonly incomingMaxBytes: number;
  /** The same for protocol version 0, which has no PAUSE. */
  readonly incomingMaxBytesV0: number;
  /** RESUME is sent at this much. */
  readonly incomingLowBytes: number;
  /** PAUSE is sent at this much received and not yet taken. */
  readonly incomingHighBytes: number;
  /** Written and not yet sent; beyond it the stream is reset. */
  readonly outgoingMaxBytes: number;
  /** `drain` comes at this much. */
  readonly outgoingLowBytes: number;
  /** `write` says false at this much. */
  readonly outgoingHighBytes: number;
}

/** The reference's figures (spec: snitun.md, Behaviour). */
export const DEFAULT_QUEUE_LIMITS: QueueLimits = {
  incomingMaxBytes: 65 * MiB,
  incomingMaxBytesV0: 256 * MiB,
  incomingLowBytes: 512 * KiB,
  incomingHighBytes: 2 * MiB,
  outgoingMaxBytes: 12 * MiB,
  outgoingLowBytes: 512 * KiB,
  outgoingHighBytes: 1 * MiB,
};
