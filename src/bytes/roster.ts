/**
 * A set whose members come and go by the thousand.
 *
 * A `Set` would do, if collectors weren't generational. It replaces its table every few members, and the old table keeps
 * its members and a reference to the new one. Once one of the tables has been moved to the old generation, every later
 * one is reachable from it, with everything it ever had: each visitor would stay in memory, and be copied by the
 * collector, until the old generation is collected.
 *
 * @module
 */

/** The place of what is in no roster. */
export const NO_PLACE = -1;

/** The members, each of which remembers its place in its property `Field`, {@link NO_PLACE} at first. */
export class Roster<Field extends string, Member extends { [field in Field]: number }> {
  readonly #field: Field;
  readonly #members: Member[] = [];

  /** @param field the property in which a member remembers its place; another roster of the same members has another */
  constructor(field: Field) {
    this.#field = field;
  }

  /** Number of members. */
  get size(): number {
    return this.#members.length;
  }

  has(member: Member): boolean {
    return this.#members[member[this.#field]] === member;
  }

  add(member: Member): void {
    if (!this.has(member)) this.#seat(member, this.#members.length);
  }

  /** Removes a member; returns whether it was one. */
  delete(member: Member): boolean {
    if (!this.has(member)) return false;
    const last = this.#members.pop()!;
    if (last !== member) this.#seat(last, member[this.#field]);
    member[this.#field] = NO_PLACE as Member[Field];
    return true;
  }

  /** Any member may be removed meanwhile: the last is visited first, since it takes a removed one's place. */
  *[Symbol.iterator](): Generator<Member> {
    for (let place = this.#members.length - 1; place >= 0; place--) {
      const member = this.#members[place];
      if (member !== undefined) yield member;
    }
  }

  #seat(member: Member, place: number): void {
    member[this.#field] = place as Member[Field];
    this.#members[place] = member;
  }
}
