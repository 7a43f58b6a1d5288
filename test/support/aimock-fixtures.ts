/** What the mocked models answer; a request picks its fixture by a word in the user's message. */

/** As the mock sees every provider's request: in the shape of OpenAI's chat. */
export interface MockRequest {
  readonly messages: readonly { readonly role: string; readonly content: unknown }[];
}

export interface MockFixture {
  readonly match: Readonly<Record<string, unknown>>;
  readonly response: Readonly<Record<string, unknown>> | ((request: MockRequest) => Readonly<Record<string, unknown>>);
  readonly chunkSize?: number;
}

/** Values that a policy masks; the mock cuts its streams every three characters, so each is split over many deltas. */
export const secrets = {
  card: "4111 1111 1111 1111",
  email: "ada.lovelace@example.com",
  awsKey: "AKIAIOSFODNN7EXAMPLE",
} as const;

export const customerReply = `Customer Ada pays with ${secrets.card}; write to ${secrets.email} — grüße, bye.`;
export const helloReply = "Hello from the mock.";
export const toolArguments = JSON.stringify({ city: "Paris", contact: secrets.email });
export const reasoningText = `The card on file is ${secrets.card}, I should not say it.`;
export const errorMessage = "This prompt cannot be processed.";

const usage = {
  prompt_tokens: 11,
  completion_tokens: 7,
  input_tokens: 11,
  output_tokens: 7,
  promptTokenCount: 11,
  candidatesTokenCount: 7,
};

export const fixtures: readonly MockFixture[] = [
  // The second turn of a tool conversation still has the first question in it: the tool's result decides.
  {
    match: { userMessage: "weather", hasToolResult: true },
    response: { content: "It is sunny in Paris.", usage },
  },
  { match: { userMessage: "hello" }, response: { content: helloReply, usage } },
  { match: { userMessage: "customer" }, response: { content: customerReply, usage } },
  {
    match: { userMessage: "weather" },
    response: { toolCalls: [{ name: "get_weather", arguments: toolArguments }], usage },
  },
  { match: { userMessage: "think" }, response: { content: helloReply, reasoning: reasoningText, usage } },
  {
    match: { userMessage: "broken" },
    response: { error: { message: errorMessage, type: "invalid_request_error" }, status: 400 },
  },
  // What the model was given comes back: values under a placeholder have to be the client's own again.
  { match: { userMessage: "repeat" }, response: (request) => ({ content: `You said: ${lastText(request)}`, usage }) },
  // A tool is called with the address that the model was told, whatever stands for it.
  {
    match: { userMessage: "invite" },
    response: (request) => ({
      toolCalls: [{ name: "get_weather", arguments: JSON.stringify({ city: "Paris", contact: lastWord(request) }) }],
      usage,
    }),
  },
  // Whatever else a test wants to send: it can be seen by `requests()`.
  { match: { userMessage: "echo" }, response: { content: "Noted.", usage } },
  { match: { inputText: "embed" }, response: { embedding: [0.25, -0.5, 0.125] } },
];

function lastWord(request: MockRequest): string {
  return lastText(request).split(" ").at(-1) ?? "";
}

function lastText({ messages }: MockRequest): string {
  const content = messages.findLast(({ role }) => role === "user")?.content;
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content.map((part: { readonly text?: unknown }) => String(part.text ?? "")).join("");
}
