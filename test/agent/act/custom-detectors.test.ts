/** The policy's own detectors, with their files: made, refused with a place, made again on a change. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { buildDetectors } from "../../../agent/act/custom-detectors.ts";
import { makeDetectors } from "../../../agent/act/detectors.ts";
import { openPolicy } from "../../../agent/act/policy-in-force.ts";
import { fingerprint } from "../../../agent/commands/fingerprint.ts";
import { readPolicyFiles } from "../../../agent/config.ts";
import { loadPolicy } from "../../../agent/policy/load.ts";

const dir = mkdtempSync(join(tmpdir(), "weir-detectors-"));
after(() => rmSync(dir, { recursive: true }));

const policyFile = join(dir, "policy.yaml");
const code = `export function settle(invoices, rate) {
  let total = 0;
  for (const invoice of invoices) {
    if (invoice.currency !== "CHF") total += invoice.amount * rate;
    else total += invoice.amount;
  }
  return Math.round(total * 100) / 100;
}
`;

function definitions(detectors: string) {
  const loaded = loadPolicy([{ file: policyFile, text: `apiVersion: weir/v1\ndetectors:\n${detectors}` }]);
  assert.ok("policy" in loaded, "errors" in loaded ? loaded.errors.join("\n") : "");
  return loaded.policy.detectors;
}

describe("files are read beside the policy", () => {
  test("words, fingerprints, directories", async () => {
    mkdirSync(join(dir, "repo/src"), { recursive: true });
    mkdirSync(join(dir, "repo/node_modules"), { recursive: true });
    writeFileSync(join(dir, "repo/src/settle.js"), code);
    writeFileSync(join(dir, "repo/node_modules/other.js"), code.replaceAll("invoice", "receipt"));
    writeFileSync(join(dir, "ids.txt"), "CUS-1\r\nMüller & Söhne\n\n  CUS-3 \nlast");
    const lines: string[] = [];
    const sink = { write: (line: string) => lines.push(line) > 0 } as unknown as NodeJS.WriteStream;
    await fingerprint([join(dir, "repo")], { stdout: sink, stderr: sink, env: {}, stateDir: dir });
    assert.match(lines.at(-1) ?? "", /^[0-9]+ fingerprints of 1 files, /);
    writeFileSync(join(dir, "code.prints"), lines.slice(0, -1).join(""));

    const built = await buildDetectors(
      definitions(`  ids: { words: { file: ids.txt } }
  prints: { source: { fingerprints: code.prints } }
  repo: { source: { directories: [repo] } }
  any-code: { source: {} }
  secrets: { keys: [password, "*_token"] }
  number: { regex: 'PRJ-[0-9]{6}' }
`),
    );
    assert.deepEqual([...built.problems], []);
    assert.deepEqual(built.files, [join(dir, "ids.txt"), join(dir, "code.prints")]);
    const { finds } = makeDetectors(built.custom);
    for (const text of ["of CUS-1.", "CUS-3", "the last", "for Müller & Söhne!"]) assert.ok(finds("ids", text), text);
    for (const text of ["CUS-2", "CUS-12", "Müller & Sohn", "ü Müller"]) assert.ok(!finds("ids", text), text);
    const prompt = `Why is this wrong?\n${code.split("\n").slice(1, 7).join("\r\n    ")}`;
    for (const name of ["prints", "repo", "any-code"]) assert.ok(finds(name, prompt), name);
    for (const name of ["prints", "repo"]) assert.ok(!finds(name, code.replaceAll("invoice", "receipt")), name);
    assert.ok(finds("secrets", '{"user":"ada","Password" : "x"}'));
    assert.ok(!finds("secrets", '{"user":"ada","passwords":"x","token":1}'));
    assert.ok(finds("number", "see PRJ-123456"));
    assert.throws(() => finds("nobody", "x"), { code: "WEIR_INTERNAL" });
  });

  test("what cannot be used is told with its place", async () => {
    writeFileSync(join(dir, "long.txt"), `good\n${"x".repeat(257)}\n`);
    writeFileSync(join(dir, "binary.txt"), Buffer.from([0x61, 0x0a, 0x62, 0x0a, 0xff, 0xfe, 0x0a]));
    writeFileSync(join(dir, "empty.txt"), "\n \n");
    writeFileSync(join(dir, "bad.prints"), "weir-fingerprints 1\n1f\nnope\n");
    writeFileSync(join(dir, "other.prints"), "1f\n");
    mkdirSync(join(dir, "nothing"), { recursive: true });
    const { problems, custom } = await buildDetectors(
      definitions(`  missing: { words: { file: missing.txt } }
  long: { words: { file: long.txt } }
  binary: { words: { file: binary.txt } }
  empty: { words: { file: empty.txt } }
  bad: { source: { fingerprints: bad.prints } }
  other: { source: { fingerprints: other.prints } }
  nothing: { source: { directories: [nothing] } }
  nowhere: { source: { directories: [nowhere] } }
  good: { words: [alpha] }
`),
    );
    const at = (file: string) => join(dir, file);
    assert.deepEqual(
      [...problems.values()],
      [
        `${policyFile}:3:3: detectors.missing: ${at("missing.txt")}: It cannot be read: there is no such file.`,
        `${at("long.txt")}:2:1: A word has at most 256 characters.`,
        `${at("binary.txt")}:3:1: The line is no UTF-8.`,
        `${policyFile}:6:3: detectors.empty: ${at("empty.txt")}: There is no word in it.`,
        `${at("bad.prints")}:3:1: Expected a fingerprint in hex.`,
        `${at("other.prints")}:1:1: The first line has to be \`weir-fingerprints 1\`; \`weir policy fingerprint\` writes it.`,
        `${policyFile}:9:3: detectors.nothing: ${at("nothing")}: There is no source code in it.`,
        `${policyFile}:10:3: detectors.nowhere: ${at("nowhere")}: It cannot be read: there is no such file.`,
      ],
    );
    assert.deepEqual([...custom.keys()], ["good"]);
  });
});

test("a list that changes is read again; a bad one keeps the last good one", async () => {
  const list = join(dir, "watched.txt");
  writeFileSync(list, "alpha\n");
  writeFileSync(
    policyFile,
    "apiVersion: weir/v1\ndetectors: { own: { words: { file: watched.txt } } }\ntargets: { db: { protocol: postgres, hosts: any } }\n",
  );
  const detectors = makeDetectors(new Map());
  const seen: string[] = [];
  const policy = await openPolicy({
    paths: [policyFile],
    read: readPolicyFiles,
    prepared: ({ custom }) => detectors.use(custom),
    loaded: () => seen.push("loaded"),
    rejected: (problems) => seen.push(problems),
  });
  policy.follow();
  try {
    const { digest } = policy.current;
    assert.ok(detectors.finds("own", "alpha") && !detectors.finds("own", "beta"));
    const masked = detectors.custom.get("own");
    writeFileSync(`${list}.new`, "beta\n");
    renameSync(`${list}.new`, list);
    while (seen.length < 1) await sleep(20);
    assert.deepEqual(seen, ["loaded"]);
    assert.ok(detectors.finds("own", "beta") && !detectors.finds("own", "alpha"));
    assert.equal(policy.current.digest, digest);
    assert.notEqual(detectors.custom.get("own"), masked);
    writeFileSync(list, "\n");
    while (seen.length < 2) await sleep(20);
    assert.match(
      seen[1] ?? "",
      /^the detectors of the policy cannot be used:\n.*policy\.yaml:2:14: detectors\.own: .*There is no word in it\.$/,
    );
    assert.ok(detectors.finds("own", "beta"));
  } finally {
    policy.close();
  }
});

test("a detector that no policy names any more stays for one policy longer", () => {
  const { custom, use, finds } = makeDetectors(new Map());
  const detector = { name: "a", needs: 0, follow: null, tail: (text: string) => text.length, next: () => null };
  use(new Map([["a", detector]]));
  use(new Map());
  assert.ok(custom.has("a"));
  assert.throws(() => finds("a", ""), { code: "WEIR_INTERNAL" });
  use(new Map());
  assert.ok(!custom.has("a"));
});
