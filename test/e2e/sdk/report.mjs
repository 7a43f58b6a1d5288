/**
 * What the client programs share: which calls are wanted, and one JSON line per call.
 * Arguments: names of calls, each perhaps with a prompt of its own (`chat=echo hello`, or `chat=@file`, for what is not to
 * be seen on the command line); none: every call.
 */
import { readFileSync } from "node:fs";

/** Runs the wanted ones of `calls` in order; each takes its prompt and gives back plain data. */
export async function report(calls, prompts) {
  const wanted = process.argv.slice(2);
  const list = wanted.length > 0 ? wanted : Object.keys(calls);
  for (const word of list) {
    const at = word.indexOf("=");
    const call = at < 0 ? word : word.slice(0, at);
    const prompt = at < 0 ? prompts[call] : given(word.slice(at + 1));
    const run = calls[call];
    if (run === undefined) throw new Error(`no call ${call}`);
    try {
      write({ call, ok: true, result: await run(prompt) });
    } catch (error) {
      write({ call, ok: false, error: described(error) });
    }
  }
}

function given(prompt) {
  return prompt.startsWith("@") ? readFileSync(prompt.slice(1), "utf8") : prompt;
}

export const prompts = {
  chat: "hello",
  stream: "customer",
  responses: "hello",
  "responses-stream": "customer",
  tools: "weather",
  "stream-tools": "weather",
  reasoning: "think",
  invoke: "hello",
  "invoke-stream": "customer",
  generate: "customer",
  embeddings: "embed this",
  count: "hello",
  error: "broken",
};

export const weatherTool = {
  name: "get_weather",
  description: "The weather of a city",
  parameters: { type: "object", properties: { city: { type: "string" }, contact: { type: "string" } } },
};

/** An SDK's typed error: its class, the HTTP status it knows, its message. */
function described(error) {
  return {
    type: error.constructor?.name ?? "unknown",
    status: error.status ?? error.status_code ?? error.$metadata?.httpStatusCode ?? null,
    message: String(error.message),
  };
}

function write(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}
