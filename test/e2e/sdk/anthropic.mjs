/** The official Anthropic SDK, as anyone would use it. */
import Anthropic from "@anthropic-ai/sdk";
import { prompts, report, weatherTool } from "./report.mjs";

const client = new Anthropic({ maxRetries: 0 });
const request = (content) => ({
  model: "claude-opus-4-6",
  max_tokens: 256,
  system: "You are brief.",
  messages: [{ role: "user", content }],
});
const { parameters, ...tool } = weatherTool;
const tools = [{ ...tool, input_schema: parameters }];

await report(
  {
    async chat(prompt) {
      const reply = await client.messages.create(request(prompt));
      return { text: textOf(reply), tokens: reply.usage.input_tokens + reply.usage.output_tokens };
    },
    async stream(prompt) {
      const stream = client.messages.stream(request(prompt));
      let text = "";
      stream.on("text", (delta) => {
        text += delta;
      });
      const reply = await stream.finalMessage();
      return { text, same: text === textOf(reply), tokens: reply.usage.input_tokens + reply.usage.output_tokens };
    },
    async tools(prompt) {
      return toolOf(await client.messages.create({ ...request(prompt), tools }));
    },
    async "stream-tools"(prompt) {
      return toolOf(await client.messages.stream({ ...request(prompt), tools }).finalMessage());
    },
    async reasoning(prompt) {
      const reply = await client.messages
        .stream({ ...request(prompt), max_tokens: 2048, thinking: { type: "enabled", budget_tokens: 1024 } })
        .finalMessage();
      const thinking = reply.content.find((block) => block.type === "thinking");
      return { text: textOf(reply), thinking: thinking.thinking, signed: thinking.signature.length > 0 };
    },
    async error(prompt) {
      return client.messages.create(request(prompt));
    },
  },
  prompts,
);

function textOf(reply) {
  return reply.content
    .filter((block) => block.type === "text")
    .map((block) => block.text)
    .join("");
}

function toolOf(reply) {
  const block = reply.content.find((part) => part.type === "tool_use");
  return { name: block.name, arguments: block.input };
}
