/** What the masker asks of a detector, so that it works the same on a text that is whole and on one that streams. */

export interface Found {
  readonly start: number;
  /** Of a value of any length (`follow`): the end of what makes it certain. */
  readonly end: number;
}

export interface Detector {
  readonly name: string;
  /** The bit of `mayMatch` without which there is no match; 0: it always has to look. */
  readonly needs: number;
  /**
   * The first place from `from` on where a value may begin whose fate is decided by text that is still to come; the
   * text's length when there is none. It may be too early, never too late.
   */
  tail(text: string, from: number): number;
  /** The first value that begins in [from, open). Text before `from` is only looked at. */
  next(text: string, from: number, open: number): Found | null;
  /** A value of any length is certain long before its end: this goes on in it. */
  readonly follow: Follow | null;
  /** The same for `latin1` texts, where that differs. */
  readonly forBytes?: Detector;
  /** It judges a text as a whole: a text that streams is held until its end. */
  readonly wholeOnly?: true;
  /** Members of JSON objects with such a name are values, whatever they hold. */
  keys?(name: string): boolean;
}

/** Where a value is certain up to, and the phase to go on in; phase 0: there it ends. A value begins in phase 1. */
export type Follow = (text: string, at: number, phase: number, final: boolean) => Followed;

export interface Followed {
  readonly at: number;
  readonly phase: number;
}

/** What detectors look at before a value (the name before an AWS secret). */
export const contextCharactersMax = 64;
