/** SCRAM against the example of RFC 7677 §3, our two ends against each other, and what has to be refused. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { saslprep } from "../../../../agent/wire/postgres/saslprep.ts";
import { ScramClient, ScramServer, scramPlain, scramPlus } from "../../../../agent/wire/postgres/scram.ts";

const random = (bytes: number): Buffer => Buffer.alloc(bytes, 9);
const leaf = createHash("sha256").update("leaf").digest();
const plain = { flag: "n" as const, data: null };

test("the example of RFC 7677", () => {
  const scram = new ScramClient("pencil", plain, random, "user", "rOprNGfwEbeRWgbNEkqO");
  assert.equal(scram.mechanism, scramPlain);
  assert.equal(scram.first, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
  assert.equal(
    scram.final("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"),
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
  );
  scram.verify("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
  assert.throws(() => scram.verify("v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), { code: "WEIR_UPSTREAM_AUTH" });
  assert.throws(() => scram.verify("e=other-error"), { code: "WEIR_UPSTREAM_AUTH" });
});

function handshake(client: ScramClient, server: ScramServer): void {
  const last = server.final(client.final(server.first(client.mechanism, client.first)));
  client.verify(last);
}

test("both ends agree, with and without channel binding", () => {
  handshake(
    new ScramClient("pässwörd", plain, random),
    new ScramServer({ password: "pässwörd", binding: null, random }),
  );
  handshake(
    new ScramClient("secret", { flag: "p", data: leaf }, random),
    new ScramServer({ password: "secret", binding: leaf, random }),
  );
});

test("a wrong secret, another certificate and a talked-down binding are refused", () => {
  const refused = { code: "WEIR_CLIENT_AUTH" };
  const server = (): ScramServer => new ScramServer({ password: "secret", binding: leaf, random });
  assert.throws(() => handshake(new ScramClient("wrong", plain, random), server()), refused);
  const other = createHash("sha256").update("other").digest();
  assert.throws(() => handshake(new ScramClient("secret", { flag: "p", data: other }, random), server()), refused);
  assert.throws(() => handshake(new ScramClient("secret", { flag: "y", data: null }, random), server()), refused);
  assert.throws(() => server().first(scramPlus, "n,,n=,r=abc"), refused);
  assert.throws(() => server().first("SCRAM-SHA-1", "n,,n=,r=abc"), refused);
  assert.throws(() => server().first(scramPlain, "junk"), refused);
});

test("a server's nonsense is refused", () => {
  const refused = { code: "WEIR_UPSTREAM_AUTH" };
  const client = (): ScramClient => new ScramClient("secret", plain, random, "", "nonce");
  assert.throws(() => client().final("r=other,s=AAAA,i=4096"), refused);
  assert.throws(() => client().final("r=nonce,s=AAAA,i=4096"), refused);
  assert.throws(() => client().final("r=nonce1,s=AAAA,i=99999999"), refused);
  assert.throws(() => client().verify("v=AAAA"), refused);
});

test("SASLprep as the examples of RFC 4013 §3 have it", () => {
  assert.equal(saslprep("I\u00adX").toString(), "IX");
  assert.equal(saslprep("user").toString(), "user");
  assert.equal(saslprep("\u00aa").toString(), "a");
  assert.equal(saslprep("\u2168").toString(), "IX");
  // What cannot be prepared is used as it is.
  assert.equal(saslprep("\u0627\u0031").toString(), "\u0627\u0031");
  assert.deepEqual(saslprep(Buffer.from([0xff, 0xfe])), Buffer.from([0xff, 0xfe]));
});
