/** An agent that tells OpenTelemetry: psql and curl as they are, and a receiver beside the agent. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { collect, startTestAgent, type TestAgent } from "../support/agent.ts";
import { type NamedOrigin, startNamedOrigin } from "../support/named-origin.ts";
import { makeNamespacePair, type NamespacePair } from "../support/namespace.ts";
import { type OtlpReceiver, otlpMissing, type ReceivedSpan, startOtlpReceiver } from "../support/otlp.ts";
import { clientEnvironment, type Postgres, startPostgres } from "../support/postgres.ts";
import { until } from "../support/until.ts";

const skip = process.getuid?.() === 0 ? (otlpMissing() ?? false) : "needs root";
const traceId = "0af7651916cd43dd8448eb211c80319c";
const traceparent = `00-${traceId}-b7ad6b7169203331-01`;
const canaries = ["4111111111111111", "s3cret-of-the-query", "s3cret-in-the-statement"];

describe("OpenTelemetry", { skip }, () => {
  let net: NamespacePair;
  let server: Postgres;
  let origin: NamedOrigin;
  let receiver: OtlpReceiver;
  let agent: TestAgent;

  before(async () => {
    net = await makeNamespacePair("otlp");
    server = await startPostgres({ namespace: net.b.name, host: net.b.address4, port: 5432 });
    await server.admin("CREATE TABLE cards AS SELECT '4111111111111111' AS number");
    origin = await startNamedOrigin(net.b, ["api.internal"]);
    receiver = await startOtlpReceiver(net.a.name, 4318);
    agent = await startTestAgent({
      namespace: net.a,
      wrap: origin.withNames([]),
      args: ["--otlp", receiver.endpoint, "--listen-metrics", "127.0.0.1:9350"],
      env: { OTEL_METRIC_EXPORT_INTERVAL: "1000" },
      policy: `apiVersion: weir/v1
targets:
  orders: { protocol: postgres, hosts: [10.231.0.0/16], ports: [5432], tls: { verify: first-use } }
  api: { protocol: http, hosts: [api.internal], tls: { verify: full, ca: ${origin.caPath} } }
rules:
  - { name: no-drop, match: { verb: drop }, verdict: deny, reason: "Nothing is dropped." }
  - { name: cards, match: { target: orders }, mask: [{ detector: credit-card, with: redact }] }
`,
    });
  });

  after(async () => {
    await agent?.remove();
    await receiver?.stop();
    await origin?.stop();
    await server?.stop();
    await net?.remove();
  });

  const psql = (sql: string) => agent.run(["psql", "-X", "-A", "-t", "-c", sql], { env: clientEnvironment(server) });
  const named = (name: string): ReceivedSpan[] => receiver.spans().filter((span) => span.name === name);
  const arrived = async (name: string): Promise<ReceivedSpan> => {
    await receiver.until(() => named(name).length > 0, name);
    return named(name)[0] as ReceivedSpan;
  };

  test("a statement is a span, masked and denied ones too", async () => {
    const ran = await psql("SELECT number, 's3cret-in-the-statement' FROM cards");
    assert.match(ran.stdout, /s3cret-in-the-statement/, ran.stderr);
    assert.doesNotMatch(ran.stdout, /4111/);
    const read = await arrived("SELECT cards");
    const { attributes } = read;
    assert.deepEqual(
      ["db.system.name", "db.response.returned_rows", "weir.masked_values", "weir.verdict", "weir.target"].map(
        (key) => attributes[key],
      ),
      ["postgresql", "1", "1", "allow", "orders"],
    );
    assert.equal(attributes["network.peer.address"], net.b.address4);
    await psql("DROP TABLE cards");
    const denied = await arrived("DROP cards");
    assert.deepEqual([denied.status.code, denied.attributes["weir.rule"]], [2, "no-drop"]);
  });

  test("a request goes into the trace that its client began, and its server sees the same header", async () => {
    const url = "https://api.internal/things?token=s3cret-of-the-query";
    const ran = await agent.run(["curl", "-sS", "--max-time", "120", "-H", `traceparent: ${traceparent}`, url]);
    assert.match(ran.stdout, /GET \/things/, ran.stderr);
    const span = await arrived("GET");
    assert.deepEqual([span.traceId, span.parentSpanId], [traceId, "b7ad6b7169203331"]);
    assert.equal(span.attributes["http.response.status_code"], "200");
    assert.equal(span.attributes["server.address"], "api.internal");
  });

  test("numbers come too, and Prometheus has what became of the spans", async () => {
    await receiver.until(() => Number(receiver.metrics().get("weir.operations deny") ?? 0) >= 1, "weir.operations");
    assert.equal(receiver.resource()["service.name"], "weir-agent");
    const words = [`--net=/run/netns/${net.a.name}`, "--", "curl", "-sS", "http://127.0.0.1:9350/metrics"];
    const scraped = await collect(spawn("nsenter", words));
    assert.match(scraped.stdout, /^weir_otlp_spans_total\{outcome="sent"\} [1-9]/m, scraped.stderr);
    assert.match(scraped.stdout, /^weir_otlp_spans_total\{outcome="dropped"\} 0$/m);
  });

  test("a receiver that goes away is not noticed; what is left out is nowhere, and nothing was malformed", async () => {
    assert.deepEqual(receiver.refused(), []);
    const text = receiver.text();
    for (const canary of canaries) assert.ok(!text.includes(canary), canary);
    await receiver.stop();
    assert.equal((await psql("SELECT 42")).stdout.trim(), "42");
    await until(() => /otlp: .* does not take/.test(agent.output()), agent.output);
    assert.equal((await psql("SELECT 43")).stdout.trim(), "43");
  });
});
