/** The official Google Gen AI SDK, as anyone would use it. */
import { GoogleGenAI } from "@google/genai";
import { prompts, report, weatherTool } from "./report.mjs";

// The mock serves v1beta alone, and no batchEmbedContents, which is what this SDK makes of `embedContent`.
const client = new GoogleGenAI({ apiKey: process.env.GEMINI_API_KEY, httpOptions: { apiVersion: "v1beta" } });
const model = "gemini-2.5-flash";
const { parameters, ...tool } = weatherTool;
const config = { tools: [{ functionDeclarations: [{ ...tool, parametersJsonSchema: parameters }] }] };

await report(
  {
    async chat(contents) {
      const reply = await client.models.generateContent({ model, contents });
      return { text: reply.text, tokens: reply.usageMetadata.totalTokenCount };
    },
    async stream(contents) {
      const stream = await client.models.generateContentStream({ model, contents });
      let text = "";
      let tokens = null;
      for await (const chunk of stream) {
        text += chunk.text ?? "";
        tokens = chunk.usageMetadata?.totalTokenCount ?? tokens;
      }
      return { text, tokens };
    },
    async tools(contents) {
      const reply = await client.models.generateContent({ model, contents, config });
      const [called] = reply.functionCalls;
      return { name: called.name, arguments: called.args };
    },
    async "stream-tools"(contents) {
      const stream = await client.models.generateContentStream({ model, contents, config });
      const calls = [];
      for await (const chunk of stream) calls.push(...(chunk.functionCalls ?? []));
      return { name: calls[0].name, arguments: calls[0].args };
    },
    async error(contents) {
      return client.models.generateContent({ model, contents });
    },
  },
  prompts,
);
