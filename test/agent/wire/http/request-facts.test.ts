/** What of a request's head a policy sees: paths in one form, and names that agree. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Headers, type RequestHead } from "../../../../agent/wire/http/message.ts";
import {
  type Destination,
  factsOf,
  recordedQuery,
  requestOperation,
  traitsOf,
} from "../../../../agent/wire/http/request-facts.ts";

const head = (target: string, authority = "api.internal", fields: string[] = []): RequestHead => ({
  method: "GET",
  target,
  scheme: "https",
  authority,
  headers: new Headers(fields),
  version: "1.1",
  body: { kind: "none" },
  raw: null,
});
const to: Destination = {
  serverName: "api.internal",
  hostname: "api.internal",
  address: "10.0.0.1",
  port: 443,
  hosts: [{ kind: "name", name: "api.internal" }],
};

test("paths have one form", () => {
  const forms: Readonly<Record<string, string>> = {
    "/a/b": "/a/b",
    "/%61/b": "/a/b",
    "/a/./b": "/a/b",
    "/a/../b": "/b",
    "/../../b": "/b",
    "/a/..": "/",
    "/a/%2e%2e/b": "/b",
    "/a%2fb": "/a%2Fb",
    "/@scope%2fname": "/@scope%2Fname",
    "https://api.internal": "/",
    "https://api.internal/x?y": "/x",
  };
  for (const [target, path] of Object.entries(forms)) assert.equal(factsOf(head(target)).path, path, target);
  assert.equal(factsOf(head("/x?y=1?2")).query, "y=1?2");
});

test("what a server may read differently is told", () => {
  for (const target of [
    "/a/../b",
    "/a/%2e%2e/b",
    "/a/%2E./b",
    "/a\\b",
    "/a%5cb",
    "/a%00",
    "/a%zz",
    "/%252e%252e/b",
    "/a%2F..%2Fb",
    "/a%2f%2e%2e",
    "/a#b",
  ])
    assert.ok(traitsOf(head(target), to).includes("ambiguous-path"), target);
  for (const target of ["/a/b", "/a..b", "/.well-known/x", "/@scope%2fname", "/a%20b"])
    assert.ok(!traitsOf(head(target), to).includes("ambiguous-path"), target);
});

test("Host, SNI, destination and target have to agree", () => {
  const mismatch = (authority: string, destination: Partial<Destination> = {}): boolean =>
    traitsOf(head("/", authority), { ...to, ...destination }).includes("host-mismatch");
  assert.equal(mismatch("api.internal"), false);
  assert.equal(mismatch("API.Internal."), false);
  assert.equal(mismatch("api.internal:443"), false);
  assert.equal(mismatch("other.internal"), true);
  assert.equal(mismatch("api.internal:444"), true);
  assert.equal(mismatch("10.0.0.1"), true);
  assert.equal(mismatch("10.0.0.1", { serverName: null }), false);
  assert.equal(mismatch("evil.example", { serverName: null, hostname: null }), true);
  const network = { serverName: null, hosts: [{ kind: "any" } as const] };
  assert.equal(mismatch("evil.example", network), false);
  assert.equal(mismatch("10.0.0.2", network), true);
  assert.equal(mismatch("[::ffff:10.0.0.1]", network), false);
  const six = { ...network, address: "fd00:231::2" };
  assert.equal(mismatch("[FD00:231:0:0::0002]:443", six), false);
  assert.equal(mismatch("[fd00:231::3]", six), true);
  assert.equal(mismatch("a.b", { serverName: null, hosts: [{ kind: "suffix", suffix: ".b" }] }), false);
});

test("a query is recorded without its secrets", () => {
  assert.equal(
    recordedQuery("q=1&api_key=abc&X-Amz-Signature=ff&page=2"),
    "q=1&api_key=***&X-Amz-Signature=***&page=2",
  );
});

test("verbs and traits that requests have alike are one list, which nobody changes, and no two are taken for one", () => {
  const of = (verbs: string[], traits: string[] = []) => {
    const described = { protocol: "http", text: "", verbs, writes: false, traits } as const;
    return requestOperation(described, head("/"), factsOf(head("/")), to, 0);
  };
  const own = ["tools/call"];
  assert.equal(of(own).verbs, of(["tools/call"]).verbs);
  own.push("more");
  assert.deepEqual(of(["tools/call"]).verbs, ["tools/call"]);
  assert.throws(() => (of(["tools/call"]).verbs as string[]).push("more"), TypeError);
  for (const verbs of [["a", "b"], ["a\nb"], ['["a","b"]'], ["=a"], ["a"], ["", ""], [""]])
    assert.deepEqual(of(verbs, ["x", ...verbs]), { ...of([]), verbs, traits: ["x", ...verbs] });
});
