/** The official OpenAI SDK, as anyone would use it. */
import OpenAI, { AzureOpenAI } from "openai";
import { prompts, report, weatherTool } from "./report.mjs";

const client = new OpenAI({ maxRetries: 0 });
const model = "gpt-4o-mini";
const messages = (content) => [
  { role: "system", content: "You are brief." },
  { role: "user", content },
];
const tools = [{ type: "function", function: weatherTool }];

await report(
  {
    async chat(prompt) {
      const reply = await client.chat.completions.create({ model, messages: messages(prompt) });
      return { text: reply.choices[0].message.content, tokens: reply.usage.total_tokens };
    },
    async stream(prompt) {
      const stream = await client.chat.completions.create({
        model,
        messages: messages(prompt),
        stream: true,
        stream_options: { include_usage: true },
      });
      let text = "";
      let tokens = null;
      for await (const chunk of stream) {
        text += chunk.choices[0]?.delta?.content ?? "";
        tokens = chunk.usage?.total_tokens ?? tokens;
      }
      return { text, tokens };
    },
    async tools(prompt) {
      const reply = await client.chat.completions.create({ model, messages: messages(prompt), tools });
      const [called] = reply.choices[0].message.tool_calls;
      return { name: called.function.name, arguments: JSON.parse(called.function.arguments) };
    },
    async "stream-tools"(prompt) {
      const stream = client.chat.completions.stream({ model, messages: messages(prompt), tools });
      const reply = await stream.finalChatCompletion();
      const [called] = reply.choices[0].message.tool_calls;
      return { name: called.function.name, arguments: JSON.parse(called.function.arguments) };
    },
    async responses(prompt) {
      const reply = await client.responses.create({ model, instructions: "You are brief.", input: prompt });
      return { text: reply.output_text, tokens: reply.usage.total_tokens };
    },
    async "responses-stream"(prompt) {
      const stream = await client.responses.create({ model, input: prompt, stream: true });
      let text = "";
      let final = null;
      for await (const event of stream) {
        if (event.type === "response.output_text.delta") text += event.delta;
        if (event.type === "response.completed") final = event.response.output[0].content[0].text;
      }
      return { text, same: text === final };
    },
    async embeddings(prompt) {
      const reply = await client.embeddings.create({ model: "text-embedding-3-small", input: prompt });
      return { vector: reply.data[0].embedding };
    },
    async azure(prompt) {
      const azure = new AzureOpenAI({
        endpoint: "https://weir-test.openai.azure.com",
        apiVersion: "2024-10-21",
        deployment: model,
        maxRetries: 0,
      });
      const reply = await azure.chat.completions.create({ model, messages: messages(prompt) });
      return { text: reply.choices[0].message.content };
    },
    async error(prompt) {
      return client.chat.completions.create({ model, messages: messages(prompt) });
    },
  },
  { ...prompts, azure: "hello" },
);
