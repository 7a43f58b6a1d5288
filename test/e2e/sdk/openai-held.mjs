/**
 * The official OpenAI SDK with a client that waits: `node openai-held.mjs chat|stream PROMPT [TIMEOUT-MS]`; without a
 * time-out everything is as the SDK has it (600 s, two retries). One line of JSON, as report.mjs writes them, with the
 * number of tries.
 */
import OpenAI from "openai";

const [call, prompt, timeout] = process.argv.slice(2);
let tries = 0;
const client = new OpenAI({
  ...(timeout === undefined ? {} : { timeout: Number(timeout) }),
  // Counts, and changes nothing.
  fetch: (...words) => {
    tries += 1;
    return fetch(...words);
  },
});
const request = { model: "gpt-4o-mini", messages: [{ role: "user", content: prompt }] };
const write = (line) => process.stdout.write(`${JSON.stringify({ call, tries, ...line })}\n`);
try {
  let text = "";
  if (call === "stream") {
    for await (const chunk of await client.chat.completions.create({ ...request, stream: true }))
      text += chunk.choices[0]?.delta?.content ?? "";
  } else text = (await client.chat.completions.create(request)).choices[0].message.content;
  write({ ok: true, result: { text } });
} catch (error) {
  const { name } = error.constructor;
  write({ ok: false, error: { type: name, status: error.status ?? null, message: String(error.message) } });
}
process.exit(0);
