/** Whether a user has rights by sudo. Inside a user namespace he would lose them, so `weir run` asks before. */
import { execFile } from "node:child_process";
import { accessSync, constants } from "node:fs";

const sudoPaths = ["/usr/bin/sudo", "/usr/local/bin/sudo"];
/** Rules may come from a directory server; who has none in time is taken for one who has rights. */
const answerMsMax = 2_000;

/** Asked by the agent as root: sudo tells others nothing of rights without a password. */
export async function hasSudoRights(uid: number, paths: readonly string[] = sudoPaths): Promise<boolean> {
  const sudo = paths.find(isExecutable);
  if (uid === 0 || sudo === undefined) return false;
  // sudo wants the name; a number that has none stands in no rule.
  const name = (await ask("id", ["-nu", "--", String(uid)])).trim();
  if (name === "") return false;
  return !/not allowed to run sudo|unknown user/.test(await ask(sudo, ["-n", "-l", "-U", name]));
}

/** Both outputs; what fails, or takes too long, says what it has said until then. */
function ask(program: string, words: readonly string[]): Promise<string> {
  const env = { PATH: "/usr/bin:/bin:/usr/sbin:/sbin", LC_ALL: "C" };
  return new Promise((resolve) => {
    execFile(program, words, { timeout: answerMsMax, env }, (_error, stdout, stderr) =>
      resolve(program === "id" ? stdout : stdout + stderr),
    );
  });
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
