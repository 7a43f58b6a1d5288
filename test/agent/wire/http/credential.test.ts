/** Credentials: put on, signed, and taken out of what comes back at any split. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  applyCredential,
  type HttpCredential,
  scrubberFor,
  scrubHead,
  tunnelScrubberFor,
} from "../../../../agent/wire/http/credential.ts";
import { Headers, type RequestHead, type ResponseHead } from "../../../../agent/wire/http/message.ts";
import { askWhole } from "../../../../agent/wire/http/ranges.ts";

const request = (fields: string[], target = "/"): RequestHead => ({
  method: "GET",
  target,
  scheme: "https",
  authority: "api.internal",
  headers: new Headers(fields),
  version: "1.1",
  body: { kind: "none" },
  raw: null,
});
const response = (fields: string[]): ResponseHead => ({
  status: 200,
  reason: "OK",
  headers: new Headers(fields),
  version: "1.1",
  body: { kind: "chunked" },
  raw: null,
});

test("the client's own key is replaced, wherever it stands", () => {
  const head = request(["Authorization", "Bearer own", "X-Api-Key", "own", "accept", "*/*"]);
  assert.equal(applyCredential(head, null, { kind: "bearer", token: "theirs" }, 0), null);
  assert.deepEqual(head.headers.fields, ["accept", "*/*", "authorization", "Bearer theirs"]);
  const query = request([], "/v1?key=own&x=1");
  assert.equal(applyCredential(query, null, { kind: "query", name: "key", value: "a b" }, 0), "/v1?x=1&key=a%20b");
});

// "GET Object" of the Amazon S3 documentation, "Examples: Signature Calculations".
test("Signature Version 4 is the one of the documentation", () => {
  const head = request(["Range", "bytes=0-9"], "/test.txt");
  const s3: RequestHead = { ...head, authority: "examplebucket.s3.amazonaws.com" };
  const key = {
    kind: "sigv4" as const,
    accessKeyId: "AKIAIOSFODNN7EXAMPLE",
    secretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    sessionToken: null,
    region: "us-east-1",
    service: "s3",
  };
  applyCredential(s3, Buffer.alloc(0), key, Date.UTC(2013, 4, 24));
  const said = s3.headers.get("authorization") ?? "";
  assert.match(said, /Credential=AKIAIOSFODNN7EXAMPLE\/20130524\/us-east-1\/s3\/aws4_request/);
  assert.match(said, /Signature=[0-9a-f]{64}$/);
});

test("a credential in a response is hidden at every split, in the forms servers repeat it", () => {
  const token = "sk-live-0123/456+789";
  const forms = [token, encodeURIComponent(token), Buffer.from(token).toString("base64").replace(/=+$/, "")];
  for (const form of forms) {
    const text = Buffer.from(`before ${form} after`);
    for (let at = 0; at <= text.length; at += 1) {
      const scrubber = scrubberFor({ kind: "bearer", token });
      assert.ok(scrubber !== null);
      const out = Buffer.concat([
        scrubber.push(Buffer.from(text.subarray(0, at))),
        scrubber.push(Buffer.from(text.subarray(at))),
        scrubber.end(),
      ]).toString();
      // The last letter of base64 may stand: some bits of one letter, which in a longer text are its neighbour's.
      assert.match(out, new RegExp(`^before \\*{${form.length - 1}}[*k] after$`), `${form} at ${at}`);
    }
  }
  const head = response(["location", `/next?token=${encodeURIComponent(token)}`]);
  scrubHead({ kind: "bearer", token }, head);
  assert.ok(!(head.headers.get("location") ?? "").includes("0123"));
});

test("every kind is hidden in the words after the status, in fields, and within other text in base64, hex and HTML", () => {
  const secret = "canary<0123>&456";
  const kinds: HttpCredential[] = [
    { kind: "bearer", token: secret },
    { kind: "header", name: "x-key", value: secret },
    { kind: "query", name: "key", value: secret },
    { kind: "basic", user: "u", password: secret },
    {
      ...{ kind: "sigv4", accessKeyId: "AKIA", secretAccessKey: "unseen-secret", sessionToken: secret },
      ...{ region: "eu-central-1", service: "s3" },
    },
  ];
  for (const credential of kinds) {
    const head: ResponseHead = { ...response(["x-echo", `got ${secret}`]), reason: `Bad key ${secret}` };
    scrubHead(credential, head);
    assert.ok(!JSON.stringify([head.reason, head.headers.fields]).includes("0123"), credential.kind);
    assert.ok(head.headers.changed);
    for (const before of ["", "B", "Be", "Bearer "]) {
      const echo = Buffer.from(`${before}${secret} and more`);
      const html = secret.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
      for (const text of [echo.toString("base64"), echo.toString("hex"), echo.toString("base64url"), html]) {
        const scrubber = scrubberFor(credential);
        assert.ok(scrubber !== null);
        const out = Buffer.concat([scrubber.push(Buffer.from(text)), scrubber.end()]).toString();
        assert.equal(out.length, text.length);
        assert.ok(scrubber.masked > 0, `${credential.kind} ${text}`);
        for (const decoded of [out, Buffer.from(out.replaceAll("*", "A"), "base64").toString("latin1")])
          assert.ok(!decoded.includes("0123"), `${credential.kind} ${text}`);
      }
    }
  }
});

test("after a 101 a message that only ends as a secret begins is not held back, a secret in two pieces is hidden", () => {
  const scrubber = tunnelScrubberFor({ kind: "bearer", token: "sk-canary-0123456789" }, "other");
  assert.ok(scrubber !== null);
  assert.equal(scrubber.push(Buffer.from("tokens")).toString(), "tokens");
  const first = scrubber.push(Buffer.from("key sk-canary-01"));
  assert.equal(first.toString(), "key ");
  assert.equal(scrubber.push(Buffer.from("23456789.")).toString(), `${"*".repeat(20)}.`);
});

test("of a part of a body the ends are hidden too, wherever parts begin and end", () => {
  const secret = "session-canary-0123456789";
  const credential: HttpCredential = {
    ...{ kind: "sigv4", accessKeyId: "AKIA", secretAccessKey: "unseen-secret", sessionToken: secret },
    ...{ region: "eu-central-1", service: "s3" },
  };
  const text = Buffer.from(`${"before ".repeat(20)}${secret}${" after".repeat(20)}`);
  const from = text.indexOf(secret);
  for (let border = from - 1; border <= from + secret.length + 1; border += 1) {
    for (const split of [1, 7, 1_000]) {
      const parts = [text.subarray(0, border), text.subarray(border)].map((part) => {
        const scrubber = scrubberFor(credential, true);
        assert.ok(scrubber !== null);
        const out: Buffer[] = [];
        for (let at = 0; at < part.length; at += split)
          out.push(scrubber.push(Buffer.from(part.subarray(at, at + split))));
        return Buffer.concat([...out, scrubber.end()]);
      });
      const joined = Buffer.concat(parts).toString();
      assert.equal(joined.length, text.length);
      // Five letters at one end of a part may stand, as in every text.
      const left = joined.slice(from, from + secret.length).replaceAll("*", "");
      assert.ok(left.length <= 5, `${border}: ${left}`);
      assert.ok(joined.startsWith("before ".repeat(20)) && joined.endsWith(" after".repeat(20)));
    }
  }
});

test("ranges are taken out of a request where what comes back is read", () => {
  const fields = (): Headers => new Headers(["Range", "bytes=0-99", "If-Range", '"x"', "accept", "*/*"]);
  const sigv4 = (service: string, sessionToken: string | null): HttpCredential => ({
    ...{ kind: "sigv4", accessKeyId: "AKIA", secretAccessKey: "unseen-secret", sessionToken },
    ...{ region: "eu-central-1", service },
  });
  const cases: [HttpCredential | null, boolean, "no" | "ends" | "yes"][] = [
    [null, false, "yes"],
    [null, true, "no"],
    [{ kind: "bearer", token: "sk-canary" }, false, "no"],
    [{ kind: "query", name: "k", value: "sk-canary" }, false, "no"],
    [sigv4("s3", null), false, "yes"],
    [sigv4("s3", "session-canary"), false, "ends"],
    [sigv4("execute-api", "session-canary"), false, "no"],
    [sigv4("s3", "session-canary"), true, "no"],
  ];
  for (const [credential, isMasked, expected] of cases) {
    const headers = fields();
    assert.equal(askWhole(headers, credential, isMasked), expected);
    assert.deepEqual(headers.fields, expected === "no" ? ["accept", "*/*"] : fields().fields);
  }
  // What the client has signed stays, and a part that would have to be masked is refused.
  const signed = new Headers(["range", "bytes=0-99", "authorization", "AWS4-HMAC-SHA256 Credential=…"]);
  assert.equal(askWhole(signed, null, true), "yes");
  assert.ok(signed.has("range"));
});
