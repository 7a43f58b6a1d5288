/** The official AWS SDK's Bedrock client, as anyone would use it. */
import {
  BedrockRuntimeClient,
  ConverseCommand,
  ConverseStreamCommand,
  InvokeModelCommand,
  InvokeModelWithResponseStreamCommand,
} from "@aws-sdk/client-bedrock-runtime";
import { prompts, report, weatherTool } from "./report.mjs";

const client = new BedrockRuntimeClient({ maxAttempts: 1 });
// The colon is percent-encoded in the path.
const modelId = "anthropic.claude-sonnet-4-20250514-v1:0";
const converse = (text) => ({
  modelId,
  system: [{ text: "You are brief." }],
  messages: [{ role: "user", content: [{ text }] }],
});
const { parameters, ...tool } = weatherTool;
const toolConfig = { tools: [{ toolSpec: { ...tool, inputSchema: { json: parameters } } }] };
const invoke = (content) => ({
  modelId,
  contentType: "application/json",
  body: JSON.stringify({
    anthropic_version: "bedrock-2023-05-31",
    max_tokens: 256,
    messages: [{ role: "user", content }],
  }),
});

await report(
  {
    async chat(prompt) {
      const reply = await client.send(new ConverseCommand(converse(prompt)));
      return { text: reply.output.message.content[0].text, tokens: reply.usage.totalTokens };
    },
    async stream(prompt) {
      const reply = await client.send(new ConverseStreamCommand(converse(prompt)));
      let text = "";
      let tokens = null;
      for await (const event of reply.stream) {
        text += event.contentBlockDelta?.delta?.text ?? "";
        tokens = event.metadata?.usage?.totalTokens ?? tokens;
      }
      return { text, tokens };
    },
    async tools(prompt) {
      const reply = await client.send(new ConverseCommand({ ...converse(prompt), toolConfig }));
      const { toolUse } = reply.output.message.content.find((block) => block.toolUse);
      return { name: toolUse.name, arguments: toolUse.input };
    },
    async "stream-tools"(prompt) {
      const reply = await client.send(new ConverseStreamCommand({ ...converse(prompt), toolConfig }));
      let name = "";
      let input = "";
      for await (const event of reply.stream) {
        name = event.contentBlockStart?.start?.toolUse?.name ?? name;
        input += event.contentBlockDelta?.delta?.toolUse?.input ?? "";
      }
      return { name, arguments: JSON.parse(input) };
    },
    async reasoning(prompt) {
      const reply = await client.send(new ConverseStreamCommand(converse(prompt)));
      let thinking = "";
      for await (const event of reply.stream) {
        thinking += event.contentBlockDelta?.delta?.reasoningContent?.text ?? "";
      }
      return { thinking };
    },
    async invoke(prompt) {
      const reply = await client.send(new InvokeModelCommand(invoke(prompt)));
      return { text: JSON.parse(reply.body.transformToString()).content[0].text };
    },
    async "invoke-stream"(prompt) {
      const reply = await client.send(new InvokeModelWithResponseStreamCommand(invoke(prompt)));
      let text = "";
      for await (const event of reply.body) {
        const chunk = JSON.parse(Buffer.from(event.chunk.bytes).toString("utf8"));
        text += chunk.delta?.text ?? "";
      }
      return { text };
    },
    async error(prompt) {
      return client.send(new ConverseCommand(converse(prompt)));
    },
  },
  prompts,
);
