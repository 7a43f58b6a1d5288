import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { weirCommand } from "../../support/agent.ts";

const weir = (...args: string[]): string => execFileSync(weirCommand, args, { encoding: "utf8" });
const bash = weir("completion", "bash");
const names = [...weir("--help").matchAll(/^ {2}weir (\S+)/gm)].map((match) => match[1] as string);

/** What bash would offer for the words, the last one begun. */
function offered(...words: string[]): string[] {
  const script = `${bash}
COMP_WORDS=(${words.map((word) => `'${word}'`).join(" ")}); COMP_CWORD=${words.length - 1}; _weir; printf '%s\\n' "\${COMPREPLY[@]}"`;
  return execFileSync("bash", ["-c", script], { encoding: "utf8", cwd: "/" }).split("\n").filter(Boolean);
}

test("bash completes commands, what they do, their options and the choices of an option", () => {
  assert.ok(names.length > 10);
  assert.deepEqual(offered("weir", "").sort(), [...names, "--help"].sort());
  assert.deepEqual(offered("weir", "appr"), ["approvals"]);
  assert.deepEqual(offered("weir", "approvals", "a"), ["approve"]);
  assert.deepEqual(offered("weir", "up", "--on-fail"), ["--on-failure"]);
  assert.deepEqual(offered("weir", "up", "--on-failure", ""), ["closed", "open"]);
  assert.ok(offered("weir", "run", "--", "ech").includes("echo"));
});

test("zsh and fish get the same commands, and no stray quote", () => {
  for (const shell of ["zsh", "fish"]) {
    const script = weir("completion", shell);
    for (const name of names) assert.match(script, new RegExp(`\\b${name}\\b`), `${shell} ${name}`);
    assert.equal((script.replaceAll("\\'", "").split("'").length - 1) % 2, 0, shell);
  }
});

test("the manual page has every command's own help", () => {
  const page = weir("completion", "man");
  for (const name of names) assert.match(page, new RegExp(`^\\.SS weir ${name}$`, "m"));
  assert.doesNotMatch(page, /[^\0-\x7f]/, "only ASCII: every troff reads it");
  assert.match(page, /\\-\\-on\\-failure closed\|open/);
});
