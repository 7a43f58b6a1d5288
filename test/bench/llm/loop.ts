/**
 * How long one request keeps the event loop: the agent without a kernel in this process, the client in another, and the
 * longest delay that perf_hooks saw while the request was on its way.
 */
import { execFile } from "node:child_process";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { startOrigin } from "../../support/origin.ts";
import { startRelay } from "../../support/relay.ts";

const run = promisify(execFile);
const mib = 1024 * 1024;
const prose = "The quick brown fox jumps over the lazy dog, and writes to 12 people. ";

/** Bodies of requests by name; each is answered with 1 KB. */
function requests(): Record<string, { body: Buffer; gzip?: boolean }> {
  const chat = (content: unknown): Buffer =>
    Buffer.from(JSON.stringify({ model: "m", messages: [{ role: "user", content }] }));
  const image = { type: "image_url", image_url: { url: `data:image/png;base64,${"iVBORw0K".repeat(2 * mib)}` } };
  return {
    "a prompt of 10 KB": { body: chat(prose.repeat(150)) },
    "a prompt of 100 KB": { body: chat(prose.repeat(1_500)) },
    "a prompt of 1 MB": { body: chat(prose.repeat(15_000)) },
    "a prompt of 16 MB": { body: chat(prose.repeat(240_000)) },
    "a picture of 16 MB": { body: chat([image]) },
    "100,000 values": { body: chat(Array.from({ length: 100_000 }, (_, at) => ({ text: `x${at}` }))) },
    "100,000 deep": { body: Buffer.from(`{"a":${"[".repeat(100_000)}${"]".repeat(100_000)}}`) },
    "gigabytes of zeros in gzip": { body: Buffer.concat(Array(32).fill(gzipSync(Buffer.alloc(64 * mib)))), gzip: true },
  };
}

export async function measureLoop(): Promise<void> {
  const origin = await startOrigin((_request, response) => {
    response.setHeader("content-type", "application/json");
    response.end('{"choices":[]}');
  });
  const relay = await startRelay({
    policy: `apiVersion: weir/v1
targets:
  openai: { protocol: openai, hosts: [api.internal], ports: [${origin.port}], tls: { ca: ${origin.caPath} } }
rules:
  - { name: masks, match: { target: openai }, mask: [{ detector: [email, credit-card] }], redact: [{ detector: [email, iban], with: placeholder }] }
`,
    server: { host: "127.0.0.1", port: origin.port },
    hostname: null,
  });
  const loop = monitorEventLoopDelay({ resolution: 1 });
  try {
    process.stdout.write("input | longest delay of the event loop\n");
    for (const [name, { body, gzip = false }] of Object.entries(requests())) {
      const words = [
        ...["-s", "--http1.1", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", "--data-binary", "@-"],
        ...["-H", "expect:", "-H", "content-type: application/json", ...(gzip ? ["-H", "content-encoding: gzip"] : [])],
        ...["--cacert", relay.authority.caPath, "--connect-to", `api.internal:${origin.port}:127.0.0.1:${relay.port}`],
        `https://api.internal:${origin.port}/v1/chat/completions`,
      ];
      const ask = async (): Promise<string> => {
        const asked = run("curl", words);
        asked.child.stdin?.on("error", () => {});
        asked.child.stdin?.end(body);
        return (await asked).stdout;
      };
      await ask();
      loop.reset();
      loop.enable();
      const status = await ask();
      loop.disable();
      process.stdout.write(`${name} (${status}) | ${(loop.max / 1e6).toFixed(0)} ms\n`);
    }
  } finally {
    await relay.close();
    await origin.close();
  }
}
