/** The settings of sign-in: what is left out, and what is refused with its place. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { readSignInSettings } from "../../../controller/identity/settings.ts";
import { tempDir } from "../../agent/tls/pki.ts";

function read(t: TestContext, text: string, env: NodeJS.ProcessEnv = {}) {
  const file = join(tempDir(t), "sign-in.yaml");
  writeFileSync(file, text);
  return readSignInSettings(file, env);
}

test("OpenID Connect with a secret of the environment", (t) => {
  const settings = read(
    t,
    "origin: https://weir.test/\noidc: { issuer: https://idp.test, clientId: weir, clientSecret: { env: SECRET } }",
    { SECRET: "s3" },
  );
  assert.deepEqual(settings, {
    origin: "https://weir.test",
    oidc: {
      ...{ issuer: "https://idp.test", clientId: "weir", clientSecret: "s3", scope: "openid profile" },
      ...{ subjectClaim: "sub", groupsClaim: "groups", logoutClients: [], ca: null },
    },
    ...{ saml: null, groups: [] },
  });
});

test("SAML with a certificate of a file", (t) => {
  const certificate = join(tempDir(t), "idp.pem");
  writeFileSync(certificate, "PEM\n");
  const { saml } = read(
    t,
    `origin: https://weir.test\nsaml: { entryPoint: https://idp.test/sso, idpIssuer: idp, idpCertificates: ${certificate} }`,
  );
  assert.equal(saml?.entityId, "https://weir.test/auth/saml");
  assert.deepEqual(saml?.idpCertificates, ["PEM"]);
});

test("SAML with a key for encrypted assertions: the pair has to fit", (t) => {
  const dir = tempDir(t);
  const make = (name: string, kind: readonly string[]): { key: string; certificate: string } => {
    const files = { key: join(dir, `${name}.key`), certificate: join(dir, `${name}.pem`) };
    const words = ["req", "-x509", "-newkey", ...kind, "-nodes", "-subj", `/CN=${name}`, "-days", "2"];
    execFileSync("openssl", [...words, "-keyout", files.key, "-out", files.certificate], { stdio: "ignore" });
    return files;
  };
  const [one, other] = [make("one", ["rsa:2048"]), make("other", ["rsa:2048"])];
  const curve = make("curve", ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
  const text = (key: string, certificate: string): string =>
    `origin: https://w.test\nsaml: { entryPoint: https://i.test/sso, idpIssuer: idp, idpCertificates: ${one.certificate}, decryption: { key: ${key}, certificate: ${certificate} } }`;
  assert.match(read(t, text(one.key, one.certificate)).saml?.decryption?.key ?? "", /PRIVATE KEY/);
  for (const [key, certificate, why] of [
    [one.key, other.certificate, /are no RSA key and its certificate/],
    [curve.key, curve.certificate, /are no RSA key and its certificate/],
    [one.certificate, one.certificate, /a private key and its certificate are expected/],
    [one.key, "/absent", /\/absent cannot be read/],
  ] as const)
    assert.throws(() => read(t, text(key, certificate)), { code: "WEIR_CONFIG_INVALID", message: why });
});

for (const [text, why] of [
  ["origin: https://weir.test", /neither oidc nor saml/],
  ["origin: http://weir.test\noidc: { issuer: https://i.test, clientId: w }", /http:\/\/weir\.test: an https address/],
  ["origin: https://weir.test\noidc: { issuer: http://i.test, clientId: w }", /http:\/\/i\.test: an https address/],
  ["origin: https://weir.test\noidc: { issuer: https://i.test }", /\/oidc must have required property 'clientId'/],
  ["origin: https://weir.test\noidc: { issuer: https://i.test, clientId: w, secret: x }", /additional properties/],
  [
    "origin: https://w.test\noidc: { issuer: https://i.test, clientId: w, clientSecret: { env: NO } }",
    /holds no secret/,
  ],
  ["origin: https://w.test\noidc: { issuer: https://i.test, clientId: w, ca: /absent }", /\/absent cannot be read/],
  ["origin: [", /./],
] as const) {
  test(`refused: ${text.replaceAll("\n", " ")}`, (t) => {
    assert.throws(() => read(t, text), { code: "WEIR_CONFIG_INVALID", message: why });
  });
}
