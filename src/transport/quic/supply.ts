/**
 * Where a QUIC session's streams get their QUIC streams from (docs/protocols/quic.md, Offers): this side opens them as
 * far as the peer lets it. Some agents let an edge open few (Bun's QUIC: 100), so that they open some themselves and
 * offer them, and the edge takes whatever is there first.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { invalidFrame } from "../../protocol/mux/credit/table.ts";
import type { ByteStream } from "../../runtime/port.ts";
import type { QuicConn } from "../../runtime/quic_port.ts";
import { asError } from "../../runtime/shared.ts";
import { CreditFrame, encodeCreditFrame } from "../../wire/credit/credit_frame.ts";
import { type PipeDeadlines, type PipeOwner, QuicPipe } from "./framed_stream.ts";
import { HELLO_DEADLINE_MS } from "../../wire/tls/client_hello.ts";

/** and so many offers may wait: as many visitors come at once without a round trip more. */
export const QUIC_OFFERS_MAX = 128;

const NOTHING: Bytes = new Uint8Array(0);

/** What a {@link QuicSupply} takes. */
export interface QuicSupplyOptions {
  readonly conn: QuicConn;
  readonly owner: PipeOwner;
  /** Where pipes are watched until they have said what they are for. */
  readonly deadlines: PipeDeadlines;
  /** QUIC streams that the peer may have open before some are offered to it; undefined at the edge, which takes offers. */
  readonly offerFrom: number | undefined;
  /** New streams are still wanted. */
  wanted(): boolean;
}

/** See the module. */
export class QuicSupply {
  readonly #options: QuicSupplyOptions;
  /** Streams that have no QUIC stream yet, and how many are being opened. */
  readonly #waiting = new Set<QuicPipe>();
  #opening = 0;
  /** QUIC streams that came when nobody waited any more; on the wire there is nothing of them. */
  readonly #spare: ByteStream[] = [];
  /** What the peer has opened and has still open. */
  readonly #theirs = new Set<QuicPipe>();
  /** What the peer offers; what is offered to it. */
  readonly #taken = new Set<QuicPipe>();
  readonly #given = new Set<QuicPipe>();

  constructor(options: QuicSupplyOptions) {
    this.#options = options;
  }

  /** Gives the pipe of a stream of ours a QUIC stream, now or as soon as there is one. */
  carry(pipe: QuicPipe): void {
    this.#waiting.add(pipe);
    for (const offer of this.#taken) return this.#take(offer);
    const spare = this.#spare.pop();
    if (spare !== undefined) this.#serve(spare);
    else if (this.#opening < this.#waiting.size) this.#open();
  }

  /** The pipe's stream is over; true where it had no QUIC stream yet, and needs none any more. */
  withdraw(pipe: QuicPipe): boolean {
    return this.#waiting.delete(pipe);
  }

  /** The peer has opened a QUIC stream. */
  came(inner: ByteStream): void {
    const { owner, deadlines } = this.#options;
    const pipe = new QuicPipe(owner);
    this.#theirs.add(pipe);
    deadlines.watch(pipe, HELLO_DEADLINE_MS);
    pipe.carriedBy(inner);
    this.#offer();
  }

  /** An OFFER is the first frame on the pipe. Throws `frame_invalid`. */
  offered(pipe: QuicPipe): void {
    if (this.#options.offerFrom !== undefined) throw invalidFrame("an edge offers no streams");
    if (this.#taken.has(pipe)) throw invalidFrame("something follows an OFFER");
    if (this.#taken.size >= QUIC_OFFERS_MAX) {
      throw invalidFrame(`there are ${QUIC_OFFERS_MAX} offers already`);
    }
    this.#options.deadlines.forget(pipe);
    this.#taken.add(pipe);
    if (this.#waiting.size > 0) this.#take(pipe);
  }

  /** An OPEN is the first frame that has come on the pipe: one offer less, where it was one. Throws `frame_invalid`. */
  opened(pipe: QuicPipe): void {
    if (this.#taken.has(pipe)) throw invalidFrame("something follows an OFFER");
    this.#options.deadlines.forget(pipe);
    if (this.#given.delete(pipe)) this.#offer();
  }

  /** The pipe's QUIC stream is over. */
  ended(pipe: QuicPipe): void {
    this.#options.deadlines.forget(pipe);
    for (const pipes of [this.#theirs, this.#taken, this.#given]) pipes.delete(pipe);
  }

  #take(offer: QuicPipe): void {
    this.ended(offer);
    this.#serve(offer.detach());
  }

  /** For whoever has waited for longest. */
  #serve(inner: ByteStream): void {
    for (const pipe of this.#waiting) {
      this.#waiting.delete(pipe);
      pipe.carriedBy(inner);
      return this.#options.owner.drained(pipe);
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
      for (const pipe of this.#waiting) {
        this.#waiting.delete(pipe);
        return this.#options.owner.ended(pipe, asError(error));
      }
    });
  }

  /** Offers as many as may wait, while the peer uses much of what it may open itself. */
  #offer(): void {
    const { conn, owner, offerFrom = Infinity, wanted } = this.#options;
    while (wanted() && this.#theirs.size >= offerFrom && this.#given.size < QUIC_OFFERS_MAX) {
      const pipe = new QuicPipe(owner);
      this.#given.add(pipe);
      pipe.send(encodeCreditFrame(CreditFrame.OFFER, 0, NOTHING));
      conn.open().then((inner) => pipe.carriedBy(inner), () => this.#given.delete(pipe));
    }
  }
}
