/**
 * `op` of a condition. A field that the operation does not have throws `Absent`: CEL's `&&` and `||` then go by the
 * other side where that settles it, and everything else hangs on the absent field. So `op.method != "GET"` is not true
 * of a SQL statement, and `op.tokens > 4000 || "drop" in op.verbs` still is of a DROP.
 */
import type { GrpcFacts, HttpFacts, LlmFacts, McpFacts, Operation } from "../core/operation.ts";

export class Absent extends Error {}

/**
 * The rest of a prompt that is longer than what is kept may say anything: a condition that hangs on its words cannot be
 * evaluated, so it counts as met for a rule that takes something away, and as not met for one that allows.
 */
const unreadPrompt = "The prompt is longer than what is kept of it (op.promptCut)";

/** One for all: it is thrown for every statement that a condition on requests is asked of, and nobody reads its stack. */
const absent = new Absent("The operation has no such field");

const emptyHttp: HttpFacts = { method: "", scheme: "https", host: "", path: "", query: "", contentType: "" };
const emptyLlm: LlmFacts = {
  ...{ provider: "openai", api: "other", model: "", stream: false },
  ...{ tools: [], tokens: 0, outputTokensMax: null, prompt: "" },
};
const emptyMcp: McpFacts = { method: "", name: "", arguments: null };
const emptyGrpc: GrpcFacts = { service: "", method: "", message: null };

export class CelOperation {
  readonly #operation: Operation;
  #filled = false;

  constructor(operation: Operation) {
    this.#operation = operation;
  }

  /** From now on an absent field is empty; one whose parts are asked for stays absent, as a missing part is an error. */
  fillAbsent(): void {
    this.#filled = true;
  }

  #present<T>(facts: T | null | undefined, empty: T | null): T {
    if (facts !== null && facts !== undefined) return facts;
    if (this.#filled && empty !== null) return empty;
    throw absent;
  }

  #isCut(): boolean {
    return this.#operation.traits.includes("prompt-cut");
  }

  #wholePrompt(): void {
    if (this.#isCut()) throw new Error(unreadPrompt);
  }

  get #http(): HttpFacts {
    return this.#present(this.#operation.http, emptyHttp);
  }

  get #llm(): LlmFacts {
    return this.#present(this.#operation.llm, emptyLlm);
  }

  get #mcp(): McpFacts {
    return this.#present(this.#operation.mcp, emptyMcp);
  }

  get #grpc(): GrpcFacts {
    return this.#present(this.#operation.grpc, emptyGrpc);
  }

  get protocol(): string {
    return this.#operation.protocol;
  }
  get kind(): string {
    return this.#operation.kind;
  }
  /** A model's call has its whole prompt here, though its record keeps less. */
  get text(): string {
    const { text, llm } = this.#operation;
    if (llm === undefined) return text;
    this.#wholePrompt();
    return text.endsWith(llm.prompt) ? text : `${text}\n\n${llm.prompt}`;
  }
  /** Standard deviations from what is usual; 0 where nothing is known. */
  get anomaly(): number {
    return this.#operation.anomaly?.score ?? 0;
  }
  get user(): string {
    return this.#operation.user;
  }
  get database(): string {
    return this.#operation.database;
  }
  get verbs(): readonly string[] {
    return this.#operation.verbs;
  }
  get relations(): readonly string[] {
    return this.#operation.relations;
  }
  get columns(): readonly string[] {
    return this.#operation.columns;
  }
  get functions(): readonly string[] {
    return this.#operation.functions;
  }
  get writes(): boolean {
    return this.#operation.writes;
  }
  get traits(): readonly string[] {
    return this.#operation.traits;
  }
  get parameters(): readonly (string | null)[] {
    return this.#operation.parameters;
  }
  get bytes(): bigint {
    return BigInt(Math.trunc(this.#operation.bytes));
  }

  get method(): string {
    return this.#http.method;
  }
  get path(): string {
    return this.#http.path;
  }
  get host(): string {
    return this.#http.host;
  }
  get query(): string {
    return this.#http.query;
  }
  get contentType(): string {
    return this.#http.contentType;
  }
  get scheme(): string {
    return this.#http.scheme;
  }

  get provider(): string {
    return this.#llm.provider;
  }
  get api(): string {
    return this.#llm.api;
  }
  get model(): string {
    return this.#llm.model;
  }
  get stream(): boolean {
    return this.#llm.stream;
  }
  get tools(): readonly string[] {
    return this.#present(this.#operation.llm?.tools, null);
  }
  get tokens(): bigint {
    return BigInt(Math.trunc(this.#llm.tokens));
  }
  get prompt(): string {
    const { prompt } = this.#llm;
    this.#wholePrompt();
    return prompt;
  }
  get promptCut(): boolean {
    return this.#llm !== emptyLlm && this.#isCut();
  }
  /** No limit set by the client is the largest one. */
  get outputTokensMax(): bigint {
    return BigInt(this.#llm.outputTokensMax ?? Number.MAX_SAFE_INTEGER);
  }

  get mcpMethod(): string {
    return this.#mcp.method;
  }
  get name(): string {
    return this.#mcp.name;
  }
  get tool(): string {
    const { method, name } = this.#mcp;
    return this.#present(method === "tools/call" ? name : null, "");
  }
  /** A call without arguments has an empty map of them; other methods have none. */
  get arguments(): unknown {
    const { method, arguments: given } = this.#mcp;
    if (given !== null && given !== undefined) return given;
    return this.#present(method === "tools/call" || method === "prompts/get" ? {} : null, null);
  }

  get service(): string {
    return this.#grpc.service;
  }
  get rpc(): string {
    return this.#grpc.method;
  }
  get message(): unknown {
    return this.#present(this.#grpc.message, null);
  }
}

export const celFields: Readonly<Record<string, string>> = {
  ...{ protocol: "string", kind: "string", text: "string", user: "string", database: "string" },
  ...{ verbs: "list<string>", relations: "list<string>", columns: "list<string>", functions: "list<string>" },
  ...{ writes: "bool", traits: "list<string>", parameters: "list", bytes: "int" },
  ...{ anomaly: "double" },
  ...{ method: "string", path: "string", host: "string", query: "string", contentType: "string", scheme: "string" },
  ...{ provider: "string", api: "string", model: "string", stream: "bool", tools: "list<string>", tokens: "int" },
  ...{
    prompt: "string",
    promptCut: "bool",
    outputTokensMax: "int",
    mcpMethod: "string",
    name: "string",
    tool: "string",
  },
  ...{ arguments: "dyn", service: "string", rpc: "string", message: "dyn" },
};
