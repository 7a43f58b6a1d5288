/** Who is told of what waits: signed, tried again, in each receiver's markup, and never with what is a secret. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { type TestContext, test } from "node:test";
import type { Approval } from "../../../controller/approvals/store.ts";
import { slackBody } from "../../../controller/notify/messages.ts";
import { createNotifier } from "../../../controller/notify/notifier.ts";
import { type Channel, readNotifySettings } from "../../../controller/notify/settings.ts";
import { until } from "../../support/until.ts";

const approval: Approval = {
  id: "abcdefgh",
  status: "pending",
  createdAtMs: 0,
  expiresAtMs: 1,
  decidedBy: null,
  decidedReason: null,
  grantedUntilMs: null,
  user: "ada",
  database: "app",
  target: "orders-db",
  process: "psql[7]",
  cgroup: "/secret-cgroup",
  text: "DELETE FROM t -- ``` <https://evil.example|press> [press](https://evil.example) \u202e\r\nBcc: x@evil.example",
  rule: "ask",
  reason: "deletes are asked for",
  session: "s",
  protocol: "postgres",
  host: "runner-1",
  job: "github:42",
  identity: null,
  approvers: [],
  risks: ["It writes: delete."],
  highlights: [],
  language: "sql",
  digest: "f".repeat(64),
};

interface Heard {
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** A receiver that answers with these statuses, then 200. */
async function receiver(t: TestContext, statuses: number[] = []) {
  const heard: Heard[] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (piece) => (body += String(piece)));
    request.on("end", () => {
      heard.push({ headers: request.headers, body });
      response.writeHead(statuses.shift() ?? 200, { Location: "http://127.0.0.1:1/" }).end();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  return { heard, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook` };
}

function notifier(channel: Channel, pauseMs = 5) {
  const logged: string[] = [];
  const made = createNotifier({
    channels: [channel],
    link: null,
    page: "http://127.0.0.1:9347",
    log: (_level, message) => logged.push(message),
    pauseMs,
  });
  return { ...made, logged };
}

test("a webhook is signed over id, time and body, and follows the decision", async (t) => {
  const { heard, url } = await receiver(t);
  const { changed, close } = notifier({ kind: "webhook", url, secret: "s3cret" });
  changed(approval);
  await until(() => heard.length === 1);
  changed({ ...approval, status: "denied", decidedBy: "uid 0", decidedReason: "no" });
  await until(() => heard.length === 2);
  for (const [{ headers, body }, status] of [
    [heard[0] as Heard, "pending"],
    [heard[1] as Heard, "denied"],
  ] as const) {
    const signed = `${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`;
    assert.equal(headers["webhook-signature"], `v1,${createHmac("sha256", "s3cret").update(signed).digest("base64")}`);
    assert.ok(Math.abs(Number(headers["webhook-timestamp"]) - Date.now() / 1000) < 600);
    const said = JSON.parse(body) as { type: string; link: string; approval: Record<string, unknown> };
    assert.equal(said.type, `approval.${status}`);
    assert.equal(said.link, "http://127.0.0.1:9347/#/approvals");
    assert.equal(said.approval["text"], approval.text);
    assert.ok(!body.includes("secret-cgroup"));
  }
  await close();
});

test("a receiver that fails is asked again, one that redirects is not followed, and it is said when all is given up", async (t) => {
  const flaky = await receiver(t, [500, 503, 302]);
  const first = notifier({ kind: "webhook", url: flaky.url, secret: "s" });
  first.changed(approval);
  await until(() => flaky.heard.length === 4);
  assert.equal(new Set(flaky.heard.map(({ headers }) => headers["webhook-id"])).size, 1, "the same message");
  await first.close();
  assert.deepEqual(first.logged, []);

  const dead = await receiver(
    t,
    Array.from({ length: 20 }, () => 500),
  );
  const second = notifier({ kind: "slack", url: dead.url });
  second.changed(approval);
  await until(() => second.logged.length > 0);
  assert.equal(dead.heard.length, 6);
  assert.match(second.logged[0] ?? "", /slack did not take abcdefgh: status 500; given up/);
});

test("what was decided meanwhile is not told any more, and closing does not wait for a pause", async (t) => {
  const { heard, url } = await receiver(t, [500, 500, 500]);
  const { changed, close, logged } = notifier({ kind: "teams", url }, 3_600_000);
  changed(approval);
  await until(() => heard.length === 1);
  changed({ ...approval, status: "withdrawn" });
  await close();
  assert.equal(heard.length, 1);
  assert.match(logged.join(), /given up/);
});

test("Slack and Teams get text that neither closes its block nor becomes a link", async (t) => {
  const slack = await receiver(t);
  const teams = await receiver(t);
  const first = notifier({ kind: "slack", url: slack.url });
  const second = notifier({ kind: "teams", url: teams.url });
  first.changed(approval);
  second.changed(approval);
  await until(() => slack.heard.length === 1 && teams.heard.length === 1);
  const [{ body }] = slack.heard as [Heard];
  const { blocks } = JSON.parse(body) as { blocks: { text: { text: string } }[] };
  const text = blocks[0]?.text.text ?? "";
  assert.equal(text.split("```").length, 3);
  assert.ok(text.includes("&lt;https://evil.example|press&gt;") && text.includes("\\u{202e}"));
  assert.equal((text.match(/</g) ?? []).length, 0);
  assert.match(blocks[1]?.text.text ?? "", /^<http:\/\/127\.0\.0\.1:9347\/#\/approvals\|/);
  const card = JSON.parse((teams.heard[0] as Heard).body) as {
    attachments: { content: { body: { text: string }[]; actions: { url: string }[] } }[];
  };
  const content = card.attachments[0]?.content;
  assert.ok(content?.body.at(-1)?.text.includes("\\[press\\]\\(https://evil\\.example\\)"));
  assert.equal(content?.actions[0]?.url, "http://127.0.0.1:9347/#/approvals");
  await Promise.all([first.close(), second.close()]);
});

const python = resolve(import.meta.dirname, "../../../build/venv/bin/python");

test("whatever a statement is made of, Slack's message is no longer than Slack takes", () => {
  for (const letter of ["<", "\u200b", "\u{1f512}", "a"]) {
    const text = letter.repeat(10_000);
    const body = slackBody(
      { ...approval, text, reason: text, process: text, risks: [text, text] },
      "https://weir.example/",
    );
    const { blocks } = body as { blocks: { text: { text: string } }[] };
    const told = blocks[0]?.text.text ?? "";
    assert.ok(told.length <= 3_000, `${letter}: ${told.length}`);
    assert.match(told, /```[\s\S]{500,}…+```$/);
    assert.ok(!/&(?!(?:amp|lt|gt);)/.test(told));
  }
});

test("e-mail arrives at a real SMTP server, with no header that the statement wrote", {
  skip: existsSync(python) ? false : "build/venv is missing: scripts/setup --dev",
}, async (t) => {
  const server = spawn(python, ["-u", "-c", smtpServer], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => server.kill());
  let out = "";
  server.stdout.setEncoding("utf8");
  server.stdout.on("data", (text: string) => (out += text));
  await until(() => /^port \d+$/m.test(out));
  const port = /^port (\d+)$/m.exec(out)?.[1];
  const to = ["soc@example.org", "Ops <ops@example.org>"];
  const { changed, close } = notifier({
    kind: "email",
    smtp: `smtp://127.0.0.1:${port}`,
    from: "weir@example.org",
    to,
  });
  changed({ ...approval, user: "ada\r\nBcc: x@evil.example" });
  await until(() => out.includes("\nend\n"));
  const [head = "", ...rest] = out.slice(out.indexOf("rcpt")).split("\n\n");
  assert.match(head, /rcpt \['soc@example\.org', 'ops@example\.org'\]/);
  assert.doesNotMatch(head, /^bcc/im);
  assert.match(rest.join("\n\n"), /DELETE FROM t[\s\S]*http:\/\/127\.0\.0\.1:9347\/#\/approvals/);
  await close();
});

const smtpServer = `
import time
from aiosmtpd.controller import Controller
class Sink:
    async def handle_DATA(self, server, session, envelope):
        print('rcpt', envelope.rcpt_tos)
        print(envelope.content.decode().replace('\\r\\n', '\\n'))
        print('end')
        return '250 OK'
import socket
probe = socket.socket(); probe.bind(('127.0.0.1', 0)); port = probe.getsockname()[1]; probe.close()
Controller(Sink(), hostname='127.0.0.1', port=port).start()
print('port', port)
time.sleep(600)
`;

test("settings: what is wrong is said with where; secrets come from files and the environment", (t) => {
  const dir = mkdtempSync(join(tmpdir(), "weir-notify-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const file = join(dir, "notify.yaml");
  const read = (text: string, env: NodeJS.ProcessEnv = {}) => {
    writeFileSync(file, text);
    return readNotifySettings(file, env);
  };
  writeFileSync(join(dir, "hook"), "whsec_c2VjcmV0\n");
  const good = read(
    `link: https://weir.example/\nnotify:\n  - webhook: { url: { env: HOOK }, secret: { file: ${dir}/hook } }\n  - email: { smtp: smtps://mail.example, from: a@b.c, to: [d@e.f] }\n`,
    { HOOK: "https://hooks.example/x" },
  );
  assert.equal(good.link, "https://weir.example");
  assert.deepEqual(good.channels[0], { kind: "webhook", url: "https://hooks.example/x", secret: "whsec_c2VjcmV0" });
  for (const [text, said] of [
    ["notify: [{ pager: {} }]", /must NOT have additional properties/],
    ["notify: [{ slack: { url: http://hooks.example/x } }]", /begins with https:/],
    ["notify: [{ slack: { url: { env: NOT_SET } } }]", /NOT_SET is not set/],
    ["notify: [{ webhook: { url: https://h.example } }]", /must have required property 'secret'/],
    ["notify: [{ email: { smtp: smtp://mail.example, from: a@b.c, to: [d@e.f] } }]", /begins with smtps:/],
    ["notify: [{ email: { smtp: smtps://m.example, from: 'a@b.c\\nBcc: x', to: [d@e.f] } }]", /pattern/],
    ["notify: [", /./],
  ] as const)
    assert.throws(
      () => read(text),
      (error: Error & { code?: string }) => error.code === "WEIR_CONFIG_INVALID" && said.test(error.message),
    );
});
