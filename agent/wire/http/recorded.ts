/** An operation as it may be recorded: nothing that its verdict masks or redacts, and no secret of a query. */
import type { Operation } from "../../core/operation.ts";
import type { Verdict } from "../../core/verdict.ts";
import { maskerOf } from "../../mask/masker.ts";
import type { ReplySummary } from "./dialect.ts";
import { type Masking, plansOf } from "./mask-plans.ts";
import { recordedQuery } from "./request-facts.ts";

const textCharactersMax = 32 * 1024;

/** JSON for the entry of a result; the text of the reply only where the rule says that it is kept. */
export function resultDetails(status: number, summary: ReplySummary | null, keepsText: boolean): string {
  if (summary === null) return `{"status":${status}}`;
  return JSON.stringify({
    status,
    ...(summary.inputTokens === null ? {} : { inputTokens: summary.inputTokens }),
    ...(summary.outputTokens === null ? {} : { outputTokens: summary.outputTokens }),
    ...(summary.toolCalls.length === 0 ? {} : { toolCalls: summary.toolCalls }),
    ...(summary.error === null ? {} : { error: summary.error }),
    ...(keepsText ? { text: summary.text } : {}),
  });
}

export function recordedOperation(operation: Operation, verdict: Verdict, masking: Masking): Operation {
  const { http, mcp, llm, grpc } = operation;
  const { record } = plansOf(verdict, masking);
  // Most requests have nothing in them that may not be recorded.
  if (record === null && mcp === undefined && llm === undefined && grpc === undefined && !needsCare(operation))
    return operation;
  const masker = record === null ? null : maskerOf(record);
  const hide = (text: string): string => (masker === null ? text : masker.maskString(text));
  return {
    ...operation,
    // Cut after it is masked: half a value would not be known for one.
    text: hide(operation.text).slice(0, textCharactersMax),
    parameters: operation.parameters.map((value) => (value === null ? null : hide(value))),
    ...(http === undefined ? {} : { http: { ...http, path: hide(http.path), query: hide(recordedQuery(http.query)) } }),
    // A prompt and arguments are in the text already.
    ...(llm === undefined ? {} : { llm: { ...llm, prompt: "" } }),
    ...(mcp === undefined ? {} : { mcp: { ...mcp, name: hide(mcp.name), arguments: null } }),
    ...(grpc === undefined ? {} : { grpc: { ...grpc, message: null } }),
  };
}

function needsCare({ text, http }: Operation): boolean {
  return text.length > textCharactersMax || (http !== undefined && http.query !== "");
}
