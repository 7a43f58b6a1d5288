/** The official Ollama client; the server comes from OLLAMA_HOST, Ollama's own variable, which this client leaves to its caller. */
import { Ollama } from "ollama";
import { prompts, report, weatherTool } from "./report.mjs";

const client = new Ollama({ host: process.env.OLLAMA_HOST });
const model = "llama3.2";
const messages = (content) => [{ role: "user", content }];
const tools = [{ type: "function", function: weatherTool }];

await report(
  {
    async chat(prompt) {
      const reply = await client.chat({ model, messages: messages(prompt) });
      return { text: reply.message.content };
    },
    async stream(prompt) {
      let text = "";
      for await (const part of await client.chat({ model, messages: messages(prompt), stream: true })) {
        text += part.message.content;
      }
      return { text };
    },
    async generate(prompt) {
      let text = "";
      for await (const part of await client.generate({ model, prompt, stream: true })) text += part.response;
      return { text };
    },
    async tools(prompt) {
      const reply = await client.chat({ model, messages: messages(prompt), tools });
      const [called] = reply.message.tool_calls;
      return { name: called.function.name, arguments: called.function.arguments };
    },
    async embeddings(prompt) {
      const reply = await client.embeddings({ model: "nomic-embed-text", prompt });
      return { vector: reply.embedding };
    },
    async error(prompt) {
      return client.chat({ model, messages: messages(prompt) });
    },
  },
  prompts,
);
