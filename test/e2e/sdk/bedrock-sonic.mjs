/** A session with Amazon Nova Sonic by the official AWS SDK: both sides speak in one call. */
import { BedrockRuntimeClient, InvokeModelWithBidirectionalStreamCommand } from "@aws-sdk/client-bedrock-runtime";
import { report } from "./report.mjs";

const client = new BedrockRuntimeClient({ maxAttempts: 1 });
const promptName = "0e8a4111-1111-4111-8111-111111111111";

async function session(...prompts) {
  let next = () => {};
  let answered = new Promise((resolve) => {
    next = resolve;
  });
  const chunk = (event) => ({ chunk: { bytes: Buffer.from(JSON.stringify({ event })) } });
  async function* body() {
    yield chunk({ sessionStart: { inferenceConfiguration: { maxTokens: 1024 } } });
    yield chunk({ promptStart: { promptName, textOutputConfiguration: { mediaType: "text/plain" } } });
    for (const [at, content] of prompts.entries()) {
      const contentName = `content-${at}`;
      yield chunk({ contentStart: { promptName, contentName, type: "TEXT", interactive: true, role: "USER" } });
      yield chunk({ textInput: { promptName, contentName, content } });
      yield chunk({ contentEnd: { promptName, contentName } });
      await answered;
      answered = new Promise((resolve) => {
        next = resolve;
      });
    }
    yield chunk({ promptEnd: { promptName } });
    yield chunk({ sessionEnd: {} });
  }
  const reply = await client.send(
    new InvokeModelWithBidirectionalStreamCommand({ modelId: "amazon.nova-sonic-v1:0", body: body() }),
  );
  const texts = [];
  const names = new Set();
  for await (const { chunk: said } of reply.body) {
    const { event } = JSON.parse(Buffer.from(said.bytes).toString());
    if (event.textOutput !== undefined) texts.push(event.textOutput.content);
    if (event.textOutput !== undefined) names.add(event.textOutput.promptName);
    if (event.contentEnd !== undefined) next();
  }
  return { text: texts.join(""), names: [...names] };
}

await report(
  { session: (prompt) => session(prompt), turns: (prompt) => session("hello", prompt) },
  { session: "customer", turns: "customer" },
);
