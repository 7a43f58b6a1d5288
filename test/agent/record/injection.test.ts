/** What a client sends must not become a log line, a field, a formula or a command of the terminal that shows the log. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { EntryBody } from "../../../agent/core/record.ts";
import { syslogMessage } from "../../../agent/forward/syslog.ts";
import { Chain, decodeEntry } from "../../../agent/record/chain.ts";
import { type FormatName, formatNames, lineMaker } from "../../../agent/record/formats.ts";
import { inertJson, inertText } from "../../../agent/record/inert.ts";
import { type ReadEntry, simplify } from "../../../agent/record/read.ts";
import { flow, operation, result, sessionEnd } from "./sample.ts";

const evils = [
  "x\nCEF:0|Weir|Weir|0.1.0|Operation|statement allow|1|act=allow",
  "x\r\n<134>1 2026-01-01T00:00:00Z host weir - - - forged",
  'a|b|c\\|d=e\\=f "quoted", "more"',
  "act=allow duser=root cs4=none",
  "\u001b]0;owned\u0007\u001b[2J\u001b[31mred \u009b31m",
  "abc\u202edcba\u2066\u200b\ufeff\u2028\u2029\u0085next",
  '=HYPERLINK("http://evil.example","click")',
  "+1+1",
  "-2+3+cmd|' /C calc'!A0",
  "@SUM(1,1)",
  "\t=1+1",
  '","","injected","',
  '\'] [forged@1 a="b"] \\',
  "\ud800 half, \u{e0001} tag, \u0000 nul",
];

function entriesWith(evil: string): ReadEntry[] {
  const chain = new Chain("host-1");
  const { process, ...rest } = flow(evil);
  const evilFlow = {
    ...rest,
    hostname: evil,
    process: { ...(process as NonNullable<typeof process>), comm: evil, exe: evil, commandLine: [evil], cgroup: evil },
    identity: { subject: evil, issuer: evil, groups: [evil] },
  };
  const bodies: EntryBody[] = [
    { type: "session-start", flow: evilFlow, target: evil, protocol: evil },
    { type: "login", user: evil, database: evil, application: evil, clientTls: true, upstreamTls: true },
    operation(
      1,
      evil,
      { action: "deny", rule: evil, reason: evil },
      { user: evil, database: evil, parameters: [evil] },
    ),
    { ...(result(1, 0) as Extract<EntryBody, { type: "result" }>), tag: evil, error: { code: evil, message: evil } },
    { type: "approval", operationId: 1, approvalId: evil, decision: "denied", by: evil, reason: evil },
    { type: "refused", code: "WEIR_DENIED", reason: evil, flow: evilFlow },
    { type: "notice", text: evil },
    { type: "agent", event: "policy-rejected", detail: evil },
    { ...(sessionEnd as Extract<EntryBody, { type: "session-end" }>), reason: evil },
  ];
  return bodies.map((body) => simplify(decodeEntry(Buffer.from(chain.append(evil, body, 1_790_000_000_000)))));
}

const linesOf = (format: FormatName, entries: readonly ReadEntry[]): string[] => {
  const maker = lineMaker(format);
  return entries.map((entry) => maker.lineOf(entry, true));
};

test("in every format an entry is one line, and holds nothing that a terminal acts on", () => {
  for (const evil of evils) {
    for (const format of formatNames) {
      for (const line of linesOf(format, entriesWith(evil)))
        assert.doesNotMatch(line, /[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/u, `${format}: ${JSON.stringify(line)}`);
    }
  }
});

test("JSON says the same when it is read", () => {
  for (const evil of evils) {
    assert.equal(JSON.parse(inertJson(JSON.stringify(evil))), evil);
    const [, , line = ""] = linesOf("jsonl", entriesWith(evil));
    const { fields } = JSON.parse(line) as { fields: { text: string } };
    // Half a pair is no UTF-8: the record has U+FFFD for it.
    assert.equal(fields.text, evil.toWellFormed());
  }
  assert.equal(inertText("a\u202eb\u{e0001}"), "a\\u202eb\\ue0001");
});

/** A reader of CEF by ArcSight's guide: seven header fields, then keys that begin behind a space. */
function readCef(line: string): { header: string[]; keys: string[]; values: Map<string, string> } {
  const header: string[] = [];
  let field = "";
  let at = 0;
  for (; header.length < 7; at += 1) {
    const character = line[at] as string;
    if (character === "\\") {
      at += 1;
      field += line[at];
    } else if (character === "|") {
      header.push(field);
      field = "";
    } else field += character;
  }
  const parts = line
    .slice(at)
    .split(/(?:^| )(\w+)=/)
    .slice(1);
  const keys = parts.filter((_, index) => index % 2 === 0);
  const values = parts.filter((_, index) => index % 2 === 1);
  const plain = (value: string) =>
    value.replace(/\\(.)/g, (_, character: string) => (character === "n" ? "\n" : character));
  return { header, keys, values: new Map(keys.map((key, index) => [key, plain(values[index] as string)])) };
}

test("CEF: no text opens a field, closes the header, or begins a record", () => {
  const harmless = linesOf("cef", entriesWith("harmless")).map((line) => readCef(line).keys);
  for (const evil of evils) {
    for (const [at, line] of linesOf("cef", entriesWith(evil)).entries()) {
      const { header, keys, values } = readCef(line);
      assert.deepEqual(header.slice(0, 4), ["CEF:0", "Weir", "Weir", "0.1.0"], evil);
      assert.deepEqual(keys, harmless[at], `${JSON.stringify(evil)}: ${line}`);
      if (header[4] !== "Operation") continue;
      assert.equal(values.get("act"), "deny");
      const lines = evil.split(/\r\n|\r|\n/).map(inertText);
      assert.equal(values.get("reason"), lines.join("\n"));
    }
  }
});

/** RFC 4180. */
function readCsv(line: string): string[] {
  const cells: string[] = [];
  const cell = /(?:"((?:[^"]|"")*)"|([^",]*))(,|$)/gy;
  for (;;) {
    const match = cell.exec(line);
    assert.ok(match !== null, line);
    cells.push(match[1]?.replaceAll('""', '"') ?? (match[2] as string));
    if (match[3] === "") return cells;
  }
}

test("CSV: as many cells as the header has, and none that a spreadsheet runs", () => {
  const columns = lineMaker("csv").header?.split(",").length;
  for (const evil of evils) {
    for (const line of linesOf("csv", entriesWith(evil))) {
      const cells = readCsv(line);
      assert.equal(cells.length, columns, line);
      for (const cell of cells) assert.doesNotMatch(cell, /^\s*[=+\-@]/, line);
    }
  }
});

test("syslog: header and structured data hold, whatever the session and the agent are called", () => {
  for (const evil of evils) {
    for (const entry of entriesWith(evil)) {
      const message = syslogMessage({ ...entry, agent: evil }, linesOf("cef", [entry])[0] as string).toString("utf8");
      assert.match(
        message,
        /^<\d{1,3}>1 \d{4}-\S+Z [\x21-\x7e]+ weir \d+ [A-Za-z]+ \[weir@32473 agent="(?:[^"\\\]]|\\["\\\]])*" seq="\d+" session="(?:[^"\\\]]|\\["\\\]])*"\] \ufeffCEF:0\|/,
        message,
      );
      assert.doesNotMatch(message.replace("\ufeff", ""), /[\p{Cc}\p{Cf}]/u);
    }
  }
});
