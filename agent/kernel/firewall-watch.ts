/**
 * Sees when somebody else changes the rules and puts them back. nf_tables tells of each change and counts them; the rules are
 * listed only when the count has moved. The legacy iptables does neither, in whatever kernel; there the rules are listed now
 * and then.
 */

/** Should a message get lost, the count tells so long after; where nothing is told, it alone does. */
const askEveryMs = 500;
const askEveryUntoldMs = 20;
const listEveryMs = 5_000;
/** What could not be put back (another program holds the firewall's lock) is tried again after so long. */
const retryMs = 500;
/** A tool that takes our rules out again and again is told once in so long. */
const toldEveryMs = 1_000;

/** Somebody who changes the rules while they are put back is answered so often in a row; then after `retryMs`. */
const roundsMax = 5;

export interface FirewallWatchOptions {
  generation(): number | null;
  /** Calls back soon after each change; returns what ends it. Throws where the kernel does not tell. */
  watch(onChange: () => void): () => void;
  /** Of a firewall.ts; `whole` is what may be taken for right. */
  standing(): Promise<{ readonly text: string; readonly whole: boolean }>;
  /** Puts the rules back. */
  restore(): Promise<void>;
  onRestored(detail: string): void;
  onNotice(text: string): void;
}

export interface FirewallWatch {
  /** Runs a change of our own, one at a time, and takes what stands afterwards for right. */
  change<Result>(own: () => Promise<Result>): Promise<Result>;
  /** Ends when the last change has ended. */
  close(): Promise<void>;
}

export async function watchFirewall(options: FirewallWatchOptions): Promise<FirewallWatch> {
  let right = "";
  let seen: number | null = null;
  let listedMs = Date.now();
  let toldMs = 0;
  let untold: string[] = [];
  let tellTimer: NodeJS.Timeout | null = null;
  let closed = false;
  let turn: Promise<unknown> = Promise.resolve();
  let looking = false;
  let failedMs: number | null = null;

  function inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = turn.then(work);
    turn = result.catch(() => {});
    return result;
  }

  async function look(): Promise<void> {
    seen = options.generation();
    const { text } = await options.standing();
    listedMs = Date.now();
    if (closed || text === right) return;
    const wanted = right;
    await options.restore();
    await settle();
    tell(difference(wanted, text));
  }

  /**
   * What the kernel lists after a change of ours is right, whatever its words for it are; but only when it is whole: who
   * changes the rules in the moment between is not to be taken for us.
   */
  async function settle(): Promise<void> {
    for (let round = 0; round < roundsMax; round += 1) {
      // Asked before the listing: a later change is looked at with the next turn.
      seen = options.generation();
      const { text, whole } = await options.standing();
      if (whole) {
        right = text;
        return;
      }
      await options.restore();
    }
    throw new Error("somebody keeps changing the rules");
  }

  /** What comes too soon after the last one is told later, never left out. */
  function tell(detail: string): void {
    untold.push(detail);
    const waitMs = toldMs + toldEveryMs - Date.now();
    if (waitMs <= 0) tellAll();
    else tellTimer ??= setTimeout(tellAll, waitMs).unref();
  }

  function tellAll(): void {
    if (tellTimer !== null) clearTimeout(tellTimer);
    tellTimer = null;
    const [first, ...more] = untold;
    untold = [];
    if (first === undefined) return;
    options.onRestored(more.length === 0 ? first : `${first}; ${more.length} more times in between`);
    toldMs = Date.now();
  }

  await settle();
  const unwatch = startWatching();
  const timer = setInterval(check, unwatch === null ? askEveryUntoldMs : askEveryMs);
  timer.unref();

  function startWatching(): (() => void) | null {
    try {
      return options.watch(check);
    } catch {
      return null;
    }
  }

  function check(): void {
    if (looking || closed) return;
    const generation = options.generation();
    if (failedMs !== null) {
      if (Date.now() - failedMs < retryMs) return;
    } else if (generation === null ? Date.now() - listedMs < listEveryMs : generation === seen) return;
    looking = true;
    failedMs = null;
    void inTurn(look)
      .catch((error: unknown) => {
        failedMs = Date.now();
        options.onNotice(`The firewall could not be put back: ${error instanceof Error ? error.message : error}`);
      })
      .finally(() => {
        looking = false;
        // What was told meanwhile.
        if (options.generation() !== seen) setImmediate(check);
      });
  }

  return {
    change: (own) =>
      inTurn(async () => {
        const result = await own();
        await settle();
        return result;
      }),
    async close() {
      closed = true;
      clearInterval(timer);
      unwatch?.();
      await turn;
      tellAll();
    },
  };
}

/** At most so many rules are named in a record. */
const rulesToldMax = 4;

function difference(right: string, found: string): string {
  const had = new Set(found.split("\n"));
  const wanted = new Set(right.split("\n"));
  const gone = [...wanted].filter((line) => !had.has(line)).map((line) => `missing: ${line}`);
  const added = [...had].filter((line) => !wanted.has(line)).map((line) => `foreign: ${line}`);
  const all = [...gone, ...added];
  const told = all.slice(0, rulesToldMax).join("; ");
  return all.length === 0
    ? "the order of the rules"
    : all.length > rulesToldMax
      ? `${told}; and ${all.length - rulesToldMax} more`
      : told;
}
