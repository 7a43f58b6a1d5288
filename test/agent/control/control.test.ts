/** The control socket: one line each way, bounded, and who asks is what the kernel says. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { askAgent } from "../../../agent/control/client.ts";
import type { ControlReply, ControlRequest } from "../../../agent/control/protocol.ts";
import { type Peer, startControl } from "../../../agent/control/server.ts";
import { WeirError } from "../../../agent/errors.ts";

const status = {
  version: "0",
  pid: 1,
  scope: "run",
  policy: "p",
  mode: "enforce",
  follows: null,
  origin: null,
  sessions: 0,
  ui: null,
};

async function open(
  t: TestContext,
  answer: (request: ControlRequest, peer: Peer) => Promise<ControlReply> = async () => ({ ok: true, status }),
) {
  const dir = mkdtempSync(join(tmpdir(), "weir-control-"));
  const path = join(dir, "run/control.sock");
  const control = await startControl({ path, peerOf: () => ({ pid: 7, uid: 1000, gid: 1000 }), answer });
  t.after(async () => {
    await control.close();
    rmSync(dir, { recursive: true });
  });
  return { path, control };
}

async function raw(t: TestContext, path: string): Promise<Socket> {
  const socket = connect(path);
  socket.on("error", () => {});
  t.after(() => socket.destroy());
  await once(socket, "connect");
  return socket;
}

async function answerTo(t: TestContext, path: string, ...pieces: (string | Buffer)[]): Promise<string> {
  const socket = await raw(t, path);
  let text = "";
  socket.on("data", (piece) => {
    text += String(piece);
  });
  const closed = once(socket, "close");
  for (const piece of pieces) {
    socket.write(piece);
    await new Promise((done) => setTimeout(done, 2));
  }
  await closed;
  return text;
}

const code = (wanted: string) => (error: unknown) => error instanceof WeirError && error.code === wanted;

test("a question is answered, and the answerer knows the peer from the kernel", async (t) => {
  const asked: unknown[] = [];
  const { path } = await open(t, async (request, peer) => {
    asked.push(request, peer.uid);
    return { ok: true, status };
  });
  assert.deepEqual(await askAgent(path, { op: "status" }), { ok: true, status });
  assert.deepEqual(asked, [{ op: "status" }, 1000]);
  assert.equal(statSync(path).mode & 0o777, 0o666);
});

test("refusals and defects come back as a code and a sentence", async (t) => {
  const { path } = await open(t, async (request) => {
    if (request.op === "run") throw new WeirError("WEIR_CONTROL_REFUSED", "not you");
    throw new Error("oops");
  });
  await assert.rejects(askAgent(path, { op: "run", name: null }), /not you/);
  await assert.rejects(askAgent(path, { op: "status" }), /oops/);
});

test("a line in pieces, with a character cut in two, is one question", async (t) => {
  const asked: ControlRequest[] = [];
  const { path } = await open(t, async (request) => {
    asked.push(request);
    return { ok: true, status };
  });
  const line = Buffer.from('{"op":"run","name":"ä"}\n');
  const cut = line.indexOf(0xc3) + 1;
  await answerTo(t, path, line.subarray(0, 5), line.subarray(5, cut), line.subarray(cut));
  assert.deepEqual(asked, [{ op: "run", name: "ä" }]);
});

test("what is not a question is refused, and a second line on a connection is not looked at", async (t) => {
  let asked = 0;
  const { path } = await open(t, async (request) => {
    asked += 1;
    return request.op === "status" ? { ok: true, status } : (undefined as never);
  });
  for (const line of ["nonsense\n", "null\n", '"status"\n', "[]\n", '{"op":"nothing"}\n', '{"op":7}\n', "\n"])
    assert.match(await answerTo(t, path, line), /"ok":false,"code":"WEIR_CONTROL_REFUSED"/, line);
  assert.equal(asked, 0);
  assert.equal((await answerTo(t, path, '{"op":"status"}\n{"op":"status"}\n')).trim().split("\n").length, 1);
  assert.equal(asked, 1);
});

test("a line without an end is cut off at its limit", async (t) => {
  const { path } = await open(t);
  assert.equal(await answerTo(t, path, "x".repeat(1024 * 1024 + 1)), "");
});

test("no agent: WEIR_AGENT_UNREACHABLE with what to do", async (t) => {
  const { path, control } = await open(t);
  await control.close();
  await assert.rejects(askAgent(path, { op: "status" }), (error: WeirError) => {
    assert.equal(error.code, "WEIR_AGENT_UNREACHABLE");
    assert.match(error.message, /weir up/);
    return true;
  });
});

test("an agent that goes without an answer is unreachable", async (t) => {
  const { path, control } = await open(t, () => new Promise(() => {}));
  const asking = askAgent(path, { op: "status" });
  setTimeout(() => void control.close(), 20);
  await assert.rejects(asking, code("WEIR_AGENT_UNREACHABLE"));
});

test("an answer may take longer than the time to ask", async (t) => {
  // `decide` and `run` are quick, but a busy host may not be: the time limit is for who does not ask.
  const { path } = await open(t, async () => {
    await new Promise((done) => setTimeout(done, 50));
    return { ok: true, status };
  });
  assert.equal((await askAgent(path, { op: "status" })).ok, true);
});

test("two agents on one socket: the running one keeps it", async (t) => {
  const { path } = await open(t);
  await assert.rejects(
    startControl({ path, peerOf: () => ({ pid: 0, uid: 0, gid: 0 }), answer: async () => ({ ok: true, status }) }),
    code("WEIR_STATE_LOCKED"),
  );
  assert.equal((await askAgent(path, { op: "status" })).ok, true);
});

test("a socket that a killed agent left is taken over", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "weir-control-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const path = join(dir, "control.sock");
  execFileSync("python3", ["-c", `import socket; socket.socket(socket.AF_UNIX).bind(${JSON.stringify(path)})`]);
  const control = await startControl({
    path,
    peerOf: () => ({ pid: 0, uid: 0, gid: 0 }),
    answer: async () => ({ ok: true, status }),
  });
  assert.equal((await askAgent(path, { op: "status" })).ok, true);
  await control.close();
});
