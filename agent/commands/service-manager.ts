/** What systemd is told of the agent (sd_notify(3)): ready, stopping, and that its event loop turns (WatchdogSec). */
import { sendDatagram } from "../kernel/native.ts";

/** Beats in one watchdog time: a beat that comes late once is no death. */
const beatsPerWatchdog = 4;

/** Says that it is ready at once, and beats until the process ends. Without a service manager it does nothing. */
export function tellServiceManager(
  env: NodeJS.ProcessEnv,
  log: (level: "warn", message: string) => void,
): { stopping(): void } {
  const path = env["NOTIFY_SOCKET"];
  if (path === undefined || path === "") return { stopping: () => {} };
  const tell = (text: string): void => {
    try {
      sendDatagram(path, text);
    } catch (error) {
      log("warn", `the service manager was not told ${text}: ${error instanceof Error ? error.message : error}`);
    }
  };
  // A job that the agent starts (`credential: exec`) must not be able to speak for it.
  delete process.env["NOTIFY_SOCKET"];
  tell("READY=1\nSTATUS=interception is in force");
  const watchdogUs =
    env["WATCHDOG_PID"] === undefined || Number(env["WATCHDOG_PID"]) === process.pid
      ? Number(env["WATCHDOG_USEC"] ?? 0)
      : 0;
  // On the event loop on purpose: a loop that is blocked decides nothing, and has to be replaced.
  if (watchdogUs > 0) setInterval(() => tell("WATCHDOG=1"), watchdogUs / 1000 / beatsPerWatchdog).unref();
  // It goes on to beat while sessions end.
  return { stopping: () => tell("STOPPING=1") };
}
