/** Streams in the shapes that the real APIs send; see test/vectors/llm/SOURCE.md. */

export const card = "4111 1111 1111 1111";
export const cardNumber = "4111111111111111";
export const email = "ada@example.com";

/** The text in pieces of these many characters. */
export function pieces(text: string, size: number): string[] {
  const parts: string[] = [];
  for (let at = 0; at < text.length; at += size) parts.push(text.slice(at, at + size));
  return parts;
}

export function sse(events: readonly unknown[], named = false): Buffer {
  const lines = events.map((event) => {
    const data = typeof event === "string" ? event : JSON.stringify(event);
    const type = (event as { type?: string }).type;
    return `${named && type !== undefined ? `event: ${type}\n` : ""}data: ${data}\n\n`;
  });
  return Buffer.from(lines.join(""), "utf8");
}

export interface ChatTexts {
  readonly content?: readonly string[];
  readonly reasoning?: readonly string[];
  readonly args?: readonly string[];
}

export function chatChunk(delta: object, reason: string | null = null, index = 0): object {
  return {
    id: "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG",
    object: "chat.completion.chunk",
    created: 1_741_570_283,
    model: "gpt-4o-2024-08-06",
    service_tier: "default",
    system_fingerprint: "fp_fc9f1d7035",
    choices: [{ index, delta, logprobs: null, finish_reason: reason }],
    usage: null,
  };
}

export function chatStream({ content = [], reasoning = [], args = [] }: ChatTexts): unknown[] {
  const events: unknown[] = [chatChunk({ role: "assistant", content: "", refusal: null })];
  for (const text of reasoning) events.push(chatChunk({ reasoning_content: text }));
  for (const text of content) events.push(chatChunk({ content: text }));
  if (args.length > 0) {
    const call = { index: 0, id: "call_DdmO9pD3xa9XTPNJ32zg2hcA", type: "function" };
    events.push(chatChunk({ tool_calls: [{ ...call, function: { name: "send_mail", arguments: "" } }] }));
    for (const text of args) events.push(chatChunk({ tool_calls: [{ index: 0, function: { arguments: text } }] }));
  }
  events.push(chatChunk({}, args.length > 0 ? "tool_calls" : "stop"));
  const usage = { prompt_tokens: 17, completion_tokens: 41, total_tokens: 58 };
  events.push({ ...chatChunk({}), choices: [], usage });
  events.push("[DONE]");
  return events;
}

export function responsesStream(texts: readonly string[], args: readonly string[] = []): unknown[] {
  let sequence = 0;
  const event = (type: string, rest: object): object => ({ type, sequence_number: sequence++, ...rest });
  const text = texts.join("");
  const part = { type: "output_text", annotations: [], logprobs: [], text };
  const message = { id: "msg_1", type: "message", status: "completed", role: "assistant", content: [part] };
  const call = { id: "fc_1", type: "function_call", status: "completed", call_id: "call_1", name: "send_mail" };
  const output = args.length > 0 ? [message, { ...call, arguments: args.join("") }] : [message];
  const response = { id: "resp_1", object: "response", created_at: 1_741_570_283, model: "gpt-4o", instructions: null };
  const place = { item_id: "msg_1", output_index: 0, content_index: 0 };
  const usage = { input_tokens: 11, output_tokens: 22, total_tokens: 33 };
  return [
    event("response.created", { response: { ...response, status: "in_progress", output: [], usage: null } }),
    event("response.output_item.added", { output_index: 0, item: { ...message, status: "in_progress", content: [] } }),
    event("response.content_part.added", { ...place, part: { ...part, text: "" } }),
    ...texts.map((delta) => event("response.output_text.delta", { ...place, delta, logprobs: [], obfuscation: "aq" })),
    event("response.output_text.done", { ...place, text, logprobs: [] }),
    event("response.content_part.done", { ...place, part }),
    event("response.output_item.done", { output_index: 0, item: message }),
    ...(args.length === 0
      ? []
      : [
          event("response.output_item.added", { output_index: 1, item: { ...call, arguments: "" } }),
          ...args.map((delta) =>
            event("response.function_call_arguments.delta", { item_id: "fc_1", output_index: 1, delta }),
          ),
          event("response.function_call_arguments.done", {
            item_id: "fc_1",
            output_index: 1,
            arguments: args.join(""),
          }),
          event("response.output_item.done", { output_index: 1, item: { ...call, arguments: args.join("") } }),
        ]),
    event("response.completed", { response: { ...response, status: "completed", output, usage } }),
  ];
}
