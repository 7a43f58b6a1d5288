/** Where traces go: the command line, else OpenTelemetry's own variables; nothing without either. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { readOtlp } from "../../../agent/otlp/settings.ts";

test("off by default, and by OTEL_SDK_DISABLED", () => {
  assert.equal(readOtlp(undefined, {}), null);
  const endpoint = "http://127.0.0.1:4318";
  assert.equal(readOtlp(undefined, { OTEL_EXPORTER_OTLP_ENDPOINT: "" }), null);
  assert.equal(readOtlp(undefined, { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_SDK_DISABLED: "true" }), null);
  assert.equal(readOtlp(endpoint, { OTEL_SDK_DISABLED: "true" })?.endpoint, endpoint, "the option says more");
});

test("the environment's headers, resource and interval", () => {
  const settings = readOtlp(undefined, {
    OTEL_EXPORTER_OTLP_ENDPOINT: "https://otel.corp/intake/",
    OTEL_EXPORTER_OTLP_HEADERS: "authorization=Bearer%20abc, x-tenant = a",
    OTEL_RESOURCE_ATTRIBUTES: "deployment.environment.name=prod,service.name=one",
    OTEL_SERVICE_NAME: "two",
    OTEL_METRIC_EXPORT_INTERVAL: "5",
  });
  assert.deepEqual(settings, {
    endpoint: "https://otel.corp/intake",
    headers: { authorization: "Bearer abc", "x-tenant": "a" },
    ca: null,
    resource: { "deployment.environment.name": "prod", "service.name": "two" },
    metricsEveryMs: 1_000,
  });
});

const refusals: readonly [string, Record<string, string>, RegExp][] = [
  ["http://otel.corp:4318", {}, /--otlp http:\/\/otel\.corp:4318: an https address/],
  ["otel.corp:4318", {}, /an https address/],
  ["https://otel.corp/?token=x", {}, /an https address/],
  ["https://user:s3cret@otel.corp", {}, /^(?!.*s3cret).*a secret in a URL/],
  ["https://otel.corp", { OTEL_EXPORTER_OTLP_HEADERS: "s3cret" }, /^(?!.*s3cret).*OTEL_EXPORTER_OTLP_HEADERS/],
  ["https://otel.corp", { OTEL_EXPORTER_OTLP_HEADERS: "a=%zz" }, /OTEL_EXPORTER_OTLP_HEADERS/],
  ["https://otel.corp", { OTEL_EXPORTER_OTLP_HEADERS: "a=x%0d%0aHost: evil" }, /OTEL_EXPORTER_OTLP_HEADERS/],
  ["https://otel.corp", { OTEL_EXPORTER_OTLP_CERTIFICATE: "/absent" }, /\/absent cannot be read/],
];
for (const [given, env, message] of refusals)
  test(`refused: ${given} ${Object.entries(env).join()}`, () => {
    assert.throws(() => readOtlp(given, env), { code: "WEIR_USAGE", message });
  });
