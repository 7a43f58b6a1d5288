/** Speaks to the service manager of this host, where there is one. */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { WeirError } from "../../errors.ts";

/** sd_booted(3). */
export function isBooted(): boolean {
  return existsSync("/run/systemd/system");
}

/** Waits until it is done: a unit of type notify is started when it has said so. */
export function systemctl(...words: string[]): void {
  try {
    execFileSync("systemctl", words, { stdio: ["ignore", "ignore", "pipe"] });
  } catch (cause) {
    const said = (cause as { stderr?: Buffer }).stderr?.toString().trim().split("\n")[0] ?? "";
    throw new WeirError("WEIR_CONFIG_INVALID", `systemctl ${words.join(" ")}: ${said}. See: journalctl -u weir`, {
      cause,
    });
  }
}

export function isActive(unit: string): boolean {
  try {
    execFileSync("systemctl", ["is-active", "--quiet", unit], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
