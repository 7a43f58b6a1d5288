/**
 * A model's API for llm.ts, as quick as Node can be: `POST /v1/chat/completions` with a reply of about 1 KB, or with
 * 200 events whose id is when each was written. Its argument: certificate, key, address and ports.
 */
import { createServer } from "node:https";

const { cert, key, address, ports } = JSON.parse(process.argv[2] ?? "{}") as {
  readonly cert: string;
  readonly key: string;
  readonly address: string;
  readonly ports: readonly number[];
};

const events = 200;
const gapMs = 2;
const reply = Buffer.from(
  JSON.stringify({
    id: "chatcmpl-1",
    object: "chat.completion",
    created: 1_741_570_283,
    model: "gpt-4o-mini",
    choices: [{ index: 0, message: { role: "assistant", content: "All is well. ".repeat(60) }, finish_reason: "stop" }],
    usage: { prompt_tokens: 40, completion_tokens: 240, total_tokens: 280 },
  }),
);

let listening = 0;
for (const port of ports)
  createServer({ cert, key }, (request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      if (!Buffer.concat(parts).includes('"stream":true')) {
        response.writeHead(200, { "content-type": "application/json", "content-length": reply.length });
        response.end(reply);
        return;
      }
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.socket?.setNoDelay(true);
      let sent = 0;
      const timer = setInterval(() => {
        const chunk = {
          object: "chat.completion.chunk",
          model: "m",
          choices: [{ index: 0, delta: { content: " word" } }],
        };
        response.write(`data: ${JSON.stringify({ id: String(nowMicroseconds()), ...chunk })}\n\n`);
        sent += 1;
        if (sent < events) return;
        clearInterval(timer);
        response.end("data: [DONE]\n\n");
      }, gapMs);
      response.on("close", () => clearInterval(timer));
    });
  })
    .listen(port, address, () => {
      listening += 1;
      if (listening === ports.length) process.send?.("ready");
    })
    .on("error", (error) => {
      throw error;
    });

process.on("disconnect", () => process.exit());

function nowMicroseconds(): number {
  return Math.round((performance.timeOrigin + performance.now()) * 1000);
}
