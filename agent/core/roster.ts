/**
 * What comes and goes all the time, and has much hanging on it. A Set or Map would do, were it not for V8: a table that one has
 * outgrown goes on naming what it held and the table that took its place. From the first such table that has grown old on,
 * nothing is collected young any more: every session stayed until the next full collection (docs/decisions/0019).
 */
export interface ReadonlyRoster<T> extends Iterable<T> {
  readonly size: number;
}

export class Roster<T> implements ReadonlyRoster<T> {
  readonly #places: Place<T>[] = [];

  get size(): number {
    return this.#places.length;
  }

  /** What it returns takes the item off again; a second time it does nothing. */
  add(item: T): () => void {
    const place: Place<T> = { item, at: this.#places.length };
    this.#places.push(place);
    return () => this.#remove(place);
  }

  /** Those that are on it when it is asked, in no order: they may be taken off meanwhile. */
  [Symbol.iterator](): Iterator<T> {
    return this.#places.map(({ item }) => item).values();
  }

  #remove(place: Place<T>): void {
    const { at } = place;
    if (at < 0) return;
    place.at = -1;
    const last = this.#places.pop() as Place<T>;
    if (last === place) return;
    this.#places[at] = last;
    last.at = at;
  }
}

interface Place<T> {
  readonly item: T;
  /** -1: taken off. */
  at: number;
}
