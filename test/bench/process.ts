/** What benchmarks ask of processes, and how figures of several rounds become one. */
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

export interface Usage {
  /** User and system time in seconds. */
  readonly cpu: number;
  /** Resident memory now and at its peak, in MB. */
  readonly rss: number;
  readonly peak: number;
}

/** Of a process and, with `children`, of those it started (nginx: master and workers). */
export function usage(pid: number | undefined, children = false): Usage {
  if (pid === undefined) return { cpu: 0, rss: 0, peak: 0 };
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const own = {
    cpu: (Number(fields[11]) + Number(fields[12])) / 100,
    rss: Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024,
    peak: Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) / 1024,
  };
  if (!children) return own;
  let { cpu, rss, peak } = own;
  for (const child of childrenOf(pid)) {
    const of = usage(child, true);
    cpu += of.cpu;
    rss += of.rss;
    peak += of.peak;
  }
  return { cpu, rss, peak };
}

function childrenOf(pid: number): number[] {
  const found: number[] = [];
  for (const task of readdirSync(`/proc/${pid}/task`))
    found.push(
      ...readFileSync(`/proc/${pid}/task/${task}/children`, "utf8")
        .split(" ")
        .filter((word) => word !== "")
        .map(Number),
    );
  return found;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** WEIR_BENCH_PROFILE=DIR: the agent writes a CPU profile there when it ends (read it with Chrome's developer tools). */
const profileDir = process.env["WEIR_BENCH_PROFILE"];
const profiling = profileDir === undefined ? {} : { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${profileDir}` };

/** Starts `weir up` in a network namespace and resolves when it is ready. */
export async function startWeir(
  namespace: string,
  weir: string,
  words: readonly string[],
  env = {},
): Promise<ChildProcess> {
  const child = spawn(
    "nsenter",
    [`--net=/run/netns/${namespace}`, "--", weir, "up", "--listen-ui", "127.0.0.1:0", ...words],
    {
      stdio: ["ignore", "pipe", "inherit"],
      env: { ...process.env, ...profiling, ...env },
    },
  );
  await new Promise<void>((done, failed) => {
    child.stdout.on("data", (text: Buffer) => {
      if (text.includes("weir ready")) done();
    });
    child.once("exit", (code) => failed(new Error(`weir up ended with ${code}`)));
  });
  return child;
}

export async function stop(child: ChildProcess | null): Promise<void> {
  if (child === null || child.exitCode !== null || child.pid === undefined) return;
  const gone = new Promise<void>((done) => child.once("exit", () => done()));
  child.kill("SIGTERM");
  await gone;
}
