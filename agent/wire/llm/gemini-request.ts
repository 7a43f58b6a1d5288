/** What a request to Gemini asks for; `setup` of its Live API has the same members. */
import type { RequestFacts } from "./message-facts.ts";
import { isObject, type JsonObject, textsOf } from "./message-leaves.ts";

/** Members that are no text for the model. Protobuf's JSON takes names in both ways of writing. */
const settings = new Set([
  ...["tools", "toolConfig", "tool_config", "safetySettings", "safety_settings", "generationConfig"],
  ...["generation_config", "cachedContent", "cached_content", "labels", "model", "parameters"],
]);

export function geminiRequest(body: JsonObject): RequestFacts {
  const inner = body["generateContentRequest"] ?? body["generate_content_request"];
  const request = isObject(inner) ? { ...body, ...inner } : body;
  const told = Object.fromEntries(Object.entries(request).filter(([key]) => !settings.has(key)));
  const prompt = textsOf(told);
  const tools: string[] = [];
  for (const tool of Array.isArray(request["tools"]) ? request["tools"] : []) {
    if (!isObject(tool)) continue;
    const functions = tool["functionDeclarations"] ?? tool["function_declarations"];
    if (!Array.isArray(functions)) {
      // The tools that Google runs itself: `{ googleSearch: {} }`.
      tools.push(...Object.keys(tool));
      continue;
    }
    for (const declared of functions) {
      if (!isObject(declared)) continue;
      if (typeof declared["name"] === "string") tools.push(declared["name"]);
      const { name: _name, ...rest } = declared;
      textsOf(rest, prompt);
    }
  }
  const config = request["generationConfig"] ?? request["generation_config"];
  const { maxOutputTokens, max_output_tokens: snake, candidateCount } = isObject(config) ? config : {};
  const most = maxOutputTokens ?? snake;
  const model = request["model"] ?? request["agent"];
  return {
    model: typeof model === "string" ? model.replace(/^models\//, "") : "",
    stream: request["stream"] === true,
    tools,
    outputTokensMax: typeof most === "number" ? most * (typeof candidateCount === "number" ? candidateCount : 1) : null,
    prompt,
  };
}
