/** build/weir-enter by itself: what is seen where, also with shared mounts, and that it always runs the command. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chownSync, cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { enterProgram } from "../../../agent/trust/enter.ts";

const skip = !existsSync(enterProgram)
  ? "build/weir-enter is not built"
  : process.getuid?.() === 0
    ? false
    : "mounts need root";

function makeFiles(t: TestContext): { dir: string; source: string; target: string } {
  const dir = mkdtempSync(join(tmpdir(), "weir-enter-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const [source, target] = [join(dir, "source"), join(dir, "target")];
  writeFileSync(source, "ours\n");
  writeFileSync(target, "theirs\n");
  return { dir, source, target };
}

function run(words: readonly string[]): { code: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(words[0] as string, words.slice(1), { encoding: "utf8" });
  return { code: status, stdout, stderr };
}

const shell = (script: string): string[] => ["--", "/bin/sh", "sh", "-c", script];

test("the command sees what is bound, the host does not, and nothing is left over", { skip }, (t) => {
  const { dir, source, target } = makeFiles(t);
  const ran = run([
    enterProgram,
    "root",
    "slave",
    "/",
    "bind",
    source,
    target,
    "remove",
    source,
    ...shell(`cat ${target}; exit 9`),
  ]);
  assert.deepEqual(ran, { code: 9, stdout: "ours\n", stderr: "" });
  assert.deepEqual(readdirSync(dir), ["target"]);
  assert.equal(readFileSync(target, "utf8"), "theirs\n");
});

test("on a host whose mounts are shared: ours stay inside, other mounts of the command go out", { skip }, (t) => {
  const { dir, source, target } = makeFiles(t);
  // A host in small: one shared mount holds the bundle, another one does not.
  const script = `set -e
    mount --make-rprivate /
    mkdir ${dir}/a ${dir}/b; mount -t tmpfs a ${dir}/a; mount -t tmpfs b ${dir}/b
    mount --make-shared ${dir}/a; mount --make-shared ${dir}/b
    cp ${target} ${dir}/a/target; mkdir ${dir}/b/other
    ${enterProgram} root slave ${dir}/a bind ${source} ${dir}/a/target \
      -- /bin/sh sh -c 'cat ${dir}/a/target; mount -t tmpfs other ${dir}/b/other; touch ${dir}/b/other/file'
    cat ${dir}/a/target; ls ${dir}/b/other`;
  assert.deepEqual(run(["unshare", "--mount", "sh", "-c", script]), {
    code: 0,
    stdout: "ours\ntheirs\nfile\n",
    stderr: "",
  });
});

test("a user without rights: the same, and his files can be replaced and removed", { skip }, (t) => {
  const { dir, source, target } = makeFiles(t);
  const program = join(dir, "enter");
  cpSync(enterProgram, program);
  const pem = join(dir, "authority");
  writeFileSync(pem, "authority\n");
  const script = [
    `cat ${target}; echo new >${target}.new; sleep 0.1; mv ${target}.new ${target}; sleep 0.1; cat ${target}`,
    `touch ${dir}/more; sleep 0.1; cat ${target}; sleep 1.5; cat ${target}`,
    `touch ${dir}/last; sleep 0.1; rm -r ${target}; ls ${target} 2>/dev/null || echo gone; id -u`,
  ].join("\n");
  for (const path of [dir, source, target]) chownSync(path, 65_534, 65_534);
  const words = ["user", "authority", pem, "slave", "/", "extend", source, target, "remove", source];
  const ran = run([
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--",
    program,
    ...words,
    ...shell(script),
  ]);
  const lines = ["ours", "new", "", "authority", "new", "new", "", "authority", "gone", "65534"];
  assert.deepEqual(ran, { code: 0, stdout: `${lines.join("\n")}\n`, stderr: "" });
});

test("what cannot be bound is said in one line, and all the rest goes on", { skip }, (t) => {
  const { dir, source, target } = makeFiles(t);
  const words = [
    "root",
    "slave",
    "/",
    "bind",
    source,
    join(dir, "gone"),
    "bind",
    source,
    target,
    "bind",
    "/gone",
    target,
  ];
  const ran = run([enterProgram, ...words, ...shell(`cat ${target}`)]);
  assert.deepEqual([ran.code, ran.stdout], [0, "ours\n"]);
  assert.match(ran.stderr, /^weir run: \S+\/gone: No such file or directory; [^\n]*\n$/);
});

test("where user namespaces are switched off the command runs as it was", { skip }, (t) => {
  const { source, target } = makeFiles(t);
  const words = `${enterProgram} user bind ${source} ${target} -- /bin/sh sh -c 'cat ${target}; readlink /proc/self/ns/user'`;
  // Switched off in a user namespace of its own, not on this host.
  const script = `echo 0 >/proc/sys/user/max_user_namespaces; readlink /proc/self/ns/user; ${words}`;
  const ran = run(["unshare", "--user", "--map-root-user", "sh", "-c", script]);
  const [outside, file, inside] = ran.stdout.split("\n");
  assert.deepEqual([ran.code, file, inside], [0, "theirs", outside]);
  assert.match(ran.stderr, /^weir run: a user namespace with mounts: [^\n]+\n$/);
});

test("a mount that cannot be cut off from the host's: nothing is bound", { skip }, (t) => {
  const { dir, source, target } = makeFiles(t);
  const ran = run([enterProgram, "root", "slave", dir, "bind", source, target, ...shell(`cat ${target}`)]);
  assert.deepEqual([ran.code, ran.stdout], [0, "theirs\n"]);
  assert.match(ran.stderr, /Invalid argument/);
});

test("a script without #! is a shell's, as with env", { skip }, (t) => {
  const { dir } = makeFiles(t);
  writeFileSync(join(dir, "script"), "echo I am $1\n", { mode: 0o755 });
  assert.equal(run([enterProgram, "root", "--", join(dir, "script"), "script", "here"]).stdout, "I am here\n");
});

test("SIGPIPE is what it was before Node, a program that is not there is 127, wrong words are 2", { skip }, () => {
  assert.match(
    run([enterProgram, "root", ...shell("grep SigIgn /proc/self/status")]).stdout,
    /SigIgn:\t[0-9a-f]{12}[02468ace][0-9a-f]{3}/,
  );
  assert.equal(run([enterProgram, "root", "--", "/gone", "gone"]).code, 127);
  assert.equal(run([enterProgram, "root", "--", "/etc/passwd", "passwd"]).code, 126);
  for (const words of [
    [],
    ["root"],
    ["root", "--"],
    ["root", "--", "/bin/true"],
    ["root", "bind", "x", "--", "/bin/true", "true"],
  ])
    assert.equal(run([enterProgram, ...words]).code, 2, words.join(" "));
});
