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
    this.values[this.#next] = value;
    this.#next = (this.#next + 1) % samplesMax;
    this.#stale += 1;
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
    const logs = this.values.map(Math.log1p).sort((a, b) => a - b);
    this.#median = middle(logs);
    const deviations = logs.map((log) => Math.abs(log - this.#median)).sort((a, b) => a - b);
    this.#spread = Math.max(madScale * middle(deviations), spreadMin);
  }
}

function middle(sorted: readonly number[]): number {
  const half = sorted.length >> 1;
  if (sorted.length === 0) return 0;
  const upper = sorted[half] as number;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[half - 1] as number)) / 2;
}
