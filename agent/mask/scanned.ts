import type { PieceScanner } from "./whole-text.ts";

/** What a masker of pieces tells of its scanner. A class: getters of an object are made old (docs/decisions/0019). */
export abstract class Scanned {
  protected readonly scanner: PieceScanner;

  constructor(scanner: PieceScanner) {
    this.scanner = scanner;
  }

  get masked(): number {
    return this.scanner.masked;
  }
  get held(): number {
    return this.scanner.held;
  }
}
