/** Whether a user has rights by sudo, with programs that answer as sudo does. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { hasSudoRights } from "../../../agent/trust/sudo.ts";

const nobody = Number(execFileSync("id", ["-u", "nobody"], { encoding: "utf8" }));

test("rights are rights unless sudo says that there are none", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "weir-sudo-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const answers = (name: string, script: string): Promise<boolean> => {
    const path = join(dir, name);
    writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    return hasSudoRights(nobody, [path]);
  };
  assert.equal(await answers("none", 'echo "User app is not allowed to run sudo on host."'), false);
  assert.equal(await answers("unknown", 'echo "sudo: unknown user nobody" >&2; exit 1'), false);
  assert.equal(await answers("some", 'echo "User app may run the following commands: (ALL) NOPASSWD: ALL"'), true);
  assert.equal(await answers("broken", "exit 1"), true);
  assert.equal(await answers("asked", '[ "$*" = "-n -l -U nobody" ] && echo "not allowed to run sudo"'), false);
  assert.equal(await hasSudoRights(nobody, [join(dir, "gone")]), false);
  assert.equal(await hasSudoRights(0), false);
  assert.equal(await hasSudoRights(54_321_678, [join(dir, "some")]), false, "a number without a name");
});
