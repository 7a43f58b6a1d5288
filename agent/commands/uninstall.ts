/** `weir uninstall`: the host as it was before `weir install`. */
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { WeirError } from "../errors.ts";
import { openCgroup, removeIfEmpty } from "../kernel/cgroup.ts";
import { removeFirewall } from "../kernel/firewall.ts";
import { removePins } from "../kernel/native.ts";
import { readArguments } from "./arguments.ts";
import { installedInstance, type Manifest, readManifest, takeAway } from "./install/files.ts";
import { isBooted, systemctl } from "./install/systemd.ts";
import { type CommandIo, defaultStateDir } from "./io.ts";
import { run as trust } from "./trust.ts";

export const help = `weir uninstall [--purge] [--root DIR] [--dry-run]

Takes away what \`weir install\` made: stops the agent, opens the firewall again, removes units, trust stores' entries and
files. What you have changed below /etc/weir stays, and so does the record in /var/lib/weir.

  --purge      these, too
  --root DIR   another root directory than /, for images
  --dry-run    says what would be done, and does nothing
`;

const pinDirectory = `/sys/fs/bpf/weir-${installedInstance}`;

export async function run(args: readonly string[], io: CommandIo): Promise<number> {
  const told = readArguments(io, help, {
    args,
    options: {
      purge: { type: "boolean", default: false },
      root: { type: "string", default: "/" },
      "dry-run": { type: "boolean", default: false },
    },
  });
  if (told === null) return 0;
  const { values } = told;
  const { root, purge, "dry-run": dryRun } = values;
  if (!dryRun && process.getuid?.() !== 0)
    throw new WeirError("WEIR_NOT_ROOT", "weir uninstall changes the host, which needs root: sudo weir uninstall.");
  const manifest = readManifest(root);
  if (manifest === null) {
    io.stdout.write("Weir is not installed here.\n");
    return 1;
  }
  const stateDir = join(root, defaultStateDir);
  for (const step of steps({ root, purge, stateDir, manifest }, io)) {
    if (!dryRun) await step.do();
    io.stdout.write(`${dryRun ? "would " : ""}${step.say}\n`);
  }
  if (!dryRun && !purge && existsSync(stateDir)) io.stdout.write(`the record stays in ${defaultStateDir}\n`);
  return 0;
}

interface Facts {
  readonly root: string;
  readonly purge: boolean;
  readonly stateDir: string;
  readonly manifest: Manifest;
}

function steps({ root, purge, stateDir, manifest }: Facts, io: CommandIo): { say: string; do(): unknown }[] {
  const host = root === "/";
  const list: { say: string; do(): unknown }[] = [];
  if (host && isBooted()) {
    list.push({
      say: "systemctl stop weir weir-firewall",
      do: () => systemctl("stop", "weir.service", "weir-firewall.service"),
    });
  }
  list.push({
    say: "take the certificate authority out of the trust stores",
    do: () => trust(["remove", "--state", stateDir, "--root", root], io),
  });
  list.push({
    say: "take the files away",
    do() {
      for (const path of takeAway(root, manifest, purge).kept) io.stdout.write(`${path} was changed and stays\n`);
    },
  });
  if (host && isBooted()) list.push({ say: "systemctl daemon-reload", do: () => systemctl("daemon-reload") });
  if (host) {
    list.push({
      say: "open the firewall",
      async do() {
        removePins(pinDirectory);
        await removeFirewall(installedInstance);
        removeRuns();
      },
    });
  }
  if (purge)
    list.push({ say: `remove ${defaultStateDir}`, do: () => rmSync(stateDir, { recursive: true, force: true }) });
  return list;
}

/** Processes that a run has left are not ended: what was installed is gone, and they are like any other. */
function removeRuns(): void {
  try {
    removeIfEmpty(openCgroup(`weir-${installedInstance}`, { create: false }));
  } catch {
    // there was never a run
  }
}
