/**
 * Supplies a QUIC session's streams with QUIC streams (docs/protocols/quic.md, Offers): this side opens them as far as
 * the peer allows. Some agents let an edge open few (Bun's QUIC: 100), so they open some themselves and offer them, and
 * the edge uses whichever is available first.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import type { ByteStream } from "../../runtime/port.ts";
import type { QuicConn } from "../../runtime/quic_port.ts";
import { asError } from "../../runtime/shared.ts";
import { CreditFrame, encodeCreditFrame, invalidFrame } from "../../wire/credit/credit_frame.ts";
import { FramedQuicStream, type FramedStreamOwner, type StreamDeadlines } from "./framed_stream.ts";
import { HELLO_DEADLINE_MS } from "../../wire/tls/client_hello.ts";

/** QUIC: outstanding offers: that many visitors can arrive at once without an extra round trip. */
export const QUIC_OFFERS_MAX = 128;

const NOTHING: Bytes = new Uint8Array(0);

/** Options of {@link QuicSupply}. */
interface QuicSupplyOptions {
  readonly conn: QuicConn;
  readonly owner: FramedStreamOwner;
  /** Deadlines for streams to announce their purpose. */
  readonly deadlines: StreamDeadlines;
  /**
   * QUIC streams that the peer may have open before some are offered to it; undefined at the edge, which accepts
   * offers.
   */
  readonly offerFrom: number | undefined;
  /** Whether new streams are still wanted. */
  wanted(): boolean;
}

/** The QUIC streams of one session. */
export class QuicSupply {
  readonly #options: QuicSupplyOptions;
  /** Streams still without a QUIC stream, and the number being opened. */
  readonly #waiting = new Set<FramedQuicStream>();
  #opening = 0;
  /** Unused QUIC streams that opened when no stream was waiting any more. */
  readonly #spare: ByteStream[] = [];
  /** QUIC streams opened by the peer and still open. */
  readonly #theirs = new Set<FramedQuicStream>();
  /** Offers from the peer; offers to it. */
  readonly #taken = new Set<FramedQuicStream>();
  readonly #given = new Set<FramedQuicStream>();

  constructor(options: QuicSupplyOptions) {
    this.#options = options;
  }

  /** Assigns a QUIC stream to a local stream, now or as soon as one is available. */
  carry(framed: FramedQuicStream): void {
    this.#waiting.add(framed);
    for (const offer of this.#taken) return this.#take(offer);
    const spare = this.#spare.pop();
    if (spare !== undefined) this.#serve(spare);
    else if (this.#opening < this.#waiting.size) this.#open();
  }

  /** The stream is over; returns true if it had no QUIC stream yet and no longer needs one. */
  withdraw(framed: FramedQuicStream): boolean {
    return this.#waiting.delete(framed);
  }

  /** The peer has opened a QUIC stream. */
  came(inner: ByteStream): void {
    const { owner, deadlines } = this.#options;
    const framed = new FramedQuicStream(owner);
    this.#theirs.add(framed);
    deadlines.watch(framed, HELLO_DEADLINE_MS);
    framed.carriedBy(inner);
    this.#offer();
  }

  /** An OFFER is the first frame on the stream. Throws `frame_invalid`. */
  offered(framed: FramedQuicStream): void {
    if (this.#options.offerFrom !== undefined) throw invalidFrame("an edge offers no streams");
    if (this.#taken.has(framed)) throw invalidFrame("something follows an OFFER");
    if (this.#taken.size >= QUIC_OFFERS_MAX) {
      throw invalidFrame(`there are ${QUIC_OFFERS_MAX} offers already`);
    }
    this.#options.deadlines.forget(framed);
    this.#taken.add(framed);
    if (this.#waiting.size > 0) this.#take(framed);
  }

  /** An OPEN is the first frame received on the stream: consumes the offer, if it was one. Throws `frame_invalid`. */
  opened(framed: FramedQuicStream): void {
    if (this.#taken.has(framed)) throw invalidFrame("something follows an OFFER");
    this.#options.deadlines.forget(framed);
    if (this.#given.delete(framed)) this.#offer();
  }

  /** The QUIC stream is over. */
  ended(framed: FramedQuicStream): void {
    this.#options.deadlines.forget(framed);
    this.#theirs.delete(framed);
    this.#taken.delete(framed);
    this.#given.delete(framed);
  }

  #take(offer: FramedQuicStream): void {
    this.ended(offer);
    this.#serve(offer.detach());
  }

  /** Assigns a QUIC stream to the longest-waiting stream. */
  #serve(inner: ByteStream): void {
    for (const framed of this.#waiting) {
      this.#waiting.delete(framed);
      framed.carriedBy(inner);
      return this.#options.owner.drained(framed);
    }
    this.#spare.push(inner);
  }

  #open(): void {
    this.#opening++;
    this.#options.conn.open().then((inner) => {
      this.#opening--;
      this.#serve(inner);
    }, (error) => {
      this.#opening--;
      for (const framed of this.#waiting) {
        this.#waiting.delete(framed);
        return this.#options.owner.ended(framed, asError(error));
      }
    });
  }

  /** Offers streams up to the limit while the peer has used much of its own allowance. */
  #offer(): void {
    const { conn, owner, offerFrom = Infinity, wanted } = this.#options;
    while (wanted() && this.#theirs.size >= offerFrom && this.#given.size < QUIC_OFFERS_MAX) {
      const framed = new FramedQuicStream(owner);
      this.#given.add(framed);
      framed.send(encodeCreditFrame(CreditFrame.OFFER, 0, NOTHING));
      conn.open().then((inner) => framed.carriedBy(inner), () => this.#given.delete(framed));
    }
  }
}
