/** Baselines of who does what where, kept over restarts. */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { Baseline, type KeptBaseline } from "../anomaly/baseline.ts";
import type { Flow } from "../core/flow.ts";
import type { Target } from "../core/target.ts";

/** Baselines at once; the one that was used least recently goes. */
const baselinesMax = 2_000;
/** What was learnt is on the disk after this. */
const saveMs = 10_000;

export interface Anomalies {
  /** Of who stands behind the flow, at this target. */
  of(flow: Flow, target: Target): Baseline;
  close(): void;
}

/** `path`: where baselines are kept; null: nowhere. */
export function openAnomalies(path: string | null): Anomalies {
  const baselines = new Map<string, Baseline>();
  if (path !== null) for (const [key, kept] of read(path)) baselines.set(key, new Baseline(kept));
  let timer: NodeJS.Timeout | null = null;

  function save(): void {
    timer = null;
    if (path === null) return;
    try {
      const kept = [...baselines].map(([key, baseline]) => [key, baseline.kept()]);
      writeFileSync(`${path}.new`, JSON.stringify(kept), { mode: 0o600 });
      renameSync(`${path}.new`, path);
    } catch {
      // A full disk refuses operations elsewhere; what is in memory stays right.
    }
  }

  return {
    of(flow, target) {
      const key = `${whoOf(flow)} at ${target.name}`;
      const baseline = baselines.get(key) ?? new Baseline();
      baselines.delete(key);
      baselines.set(key, baseline);
      if (baselines.size > baselinesMax) baselines.delete(baselines.keys().next().value as string);
      if (path !== null && timer === null) timer = setTimeout(save, saveMs).unref();
      return baseline;
    },
    close() {
      if (timer !== null) clearTimeout(timer);
      save();
    },
  };
}

/** The identity where it is proven; else the user and the program, which outlive a process. */
function whoOf({ identity, process }: Flow): string {
  if (identity !== null) return `${identity.issuer} ${identity.subject}`;
  return process === null ? "unknown" : `uid ${process.uid} ${process.exe}`;
}

function read(path: string): [string, KeptBaseline][] {
  try {
    const value: unknown = JSON.parse(readFileSync(path, "utf8"));
    return Array.isArray(value) ? (value as [string, KeptBaseline][]).slice(-baselinesMax) : [];
  } catch {
    // No file at the first start; a damaged one is learnt anew.
    return [];
  }
}
