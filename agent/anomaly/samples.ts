/** The last values of one quantity, and how far a new one is from what is usual: median and MAD, on a log scale. */

/** Values that are kept. */
export const samplesMax = 64;
/** Fewer tell nothing. */
export const samplesMin = 12;
/** Median and spread are reckoned anew after so many values: for each operation it would cost more than it tells. */
const reckonEvery = 8;
/** Spread that is always granted, in natural logarithms: a factor of 1.6 is no news. */
const spreadMin = 0.5;
/** Makes the MAD of a normal distribution its standard deviation (Rousseeuw, Croux 1993). */
const madScale = 1.4826;

/** Sorted in place: typed arrays are sorted as numbers, without a call for each comparison. */
const scratch = new Float64Array(samplesMax);

export class Samples {
  readonly values: number[];
  #next: number;
  #median = 0;
  #spread = spreadMin;
  /** Values since the two were reckoned. */
  #stale = samplesMax;

  constructor(values: readonly number[] = []) {
    this.values = values.slice(-samplesMax);
    this.#next = this.values.length % samplesMax;
  }

  add(value: number): void {
    // One for its like changes nothing: a query that brings one row each time is reckoned once.
    if (this.values[this.#next] !== value) this.#stale += 1;
    this.values[this.#next] = value;
    this.#next = (this.#next + 1) % samplesMax;
  }

  get usual(): number {
    this.#reckon();
    return Math.round(Math.expm1(this.#median));
  }

  /** Standard deviations above the usual; 0 when it is below, or too little is known. */
  above(value: number): number {
    if (this.values.length < samplesMin) return 0;
    this.#reckon();
    return Math.max(0, (Math.log1p(value) - this.#median) / this.#spread);
  }

  #reckon(): void {
    if (this.#stale < reckonEvery) return;
    this.#stale = 0;
    const { values } = this;
    const count = values.length;
    for (let index = 0; index < count; index += 1) scratch[index] = Math.log1p(values[index] as number);
    this.#median = median(count);
    for (let index = 0; index < count; index += 1) scratch[index] = Math.abs((scratch[index] as number) - this.#median);
    this.#spread = Math.max(madScale * median(count), spreadMin);
  }
}

/** Of the first `count` values in the scratch space, which are sorted by it. */
function median(count: number): number {
  const sorted = scratch.subarray(0, count).sort();
  const half = sorted.length >> 1;
  if (sorted.length === 0) return 0;
  const upper = sorted[half] as number;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[half - 1] as number)) / 2;
}
