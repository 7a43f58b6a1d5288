/** Works on a body that was handed out (`http/large-body.ts`), wherever there is time for it. */
import type { Verdict } from "../core/verdict.ts";
import { WeirError } from "../errors.ts";
import type { OwnDetectors } from "../mask/plan.ts";
import type { Described, DialectContext, DialectExchange } from "./http/dialect.ts";
import {
  asBuffer,
  type LargeDone,
  type LargeTask,
  requestHeadOf,
  responseHeadOf,
  type Twin,
} from "./http/large-body.ts";
import type { RequestHead } from "./http/message.ts";
import { plainExchange } from "./http/plain.ts";
import { llmDialect } from "./llm/dialect.ts";
import { mcpDialect } from "./mcp/dialect.ts";

/** What only the agent knows: what its policy says of an entry of a list, and how a tool was at first sight. */
export type Question =
  | { readonly about: "would"; readonly described: Described }
  | { readonly about: "pin"; readonly name: string; readonly digest: string; readonly text: string }
  | { readonly about: "pinned"; readonly name: string };

/** Answers by `keyOf` the question. */
export type Answers = Map<string, unknown>;

export interface TaskContext {
  readonly maskKey: Buffer;
  readonly custom: OwnDetectors;
  readonly answers: Answers;
}

/** Questions: nothing was done yet; with their answers among `answers` the same is to be asked for again. */
export function runLargeTask(task: LargeTask, context: TaskContext): LargeDone | readonly Question[] {
  const open = new Map<string, Question>();
  const answer = (question: Question, unknown: unknown): unknown => {
    const key = keyOf(question);
    if (context.answers.has(key)) return context.answers.get(key);
    open.set(key, question);
    return unknown;
  };
  let done: LargeDone;
  try {
    done = run(task, {
      targetProtocol: task.targetProtocol,
      maskKey: context.maskKey,
      custom: context.custom,
      would: (described) => answer({ about: "would", described }, allowed) as Verdict,
      pin: (name, digest, text) =>
        answer({ about: "pin", name, digest, text }, null) as ReturnType<DialectContext["pin"]>,
      pinned: (name) => answer({ about: "pinned", name }, null) as ReturnType<DialectContext["pinned"]>,
    });
  } catch (error) {
    done = failedBy(error);
  }
  return open.size > 0 ? [...open.values()] : done;
}

export function keyOf(question: Question): string {
  switch (question.about) {
    case "would":
      return `would ${JSON.stringify(question.described)}`;
    case "pin":
      return `pin ${question.digest} ${question.name}`;
    case "pinned":
      return `pinned ${question.name}`;
  }
}

export function answerTo(question: Question, context: Pick<DialectContext, "would" | "pin" | "pinned">): unknown {
  switch (question.about) {
    case "would":
      return context.would(question.described);
    case "pin":
      return context.pin(question.name, question.digest, question.text);
    case "pinned":
      return context.pinned(question.name);
  }
}

/** Stands for an answer that is still to come. */
const allowed = { action: "allow" };

function failedBy(error: unknown): LargeDone {
  if (error instanceof WeirError) return { is: "failed", code: error.code, message: error.message };
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { is: "failed", code: "WEIR_INTERNAL", message };
}

function run(task: LargeTask, context: DialectContext): LargeDone {
  const { step, state } = task;
  const head = requestHeadOf(task.head);
  const body = asBuffer(task.body);
  const exchange = open(task, head, context);
  const twin = exchange.twin as Twin;
  twin.restore(state);
  switch (step.do) {
    case "describe": {
      const described = exchange.describe(body);
      return { is: "described", described: twin.pack?.(described) ?? described, state: twin.save(), body };
    }
    case "rewrite": {
      const rewritten = exchange.rewrite(body, step.verdict);
      const fields = head.headers.changed ? head.headers.fields : null;
      return { is: "rewritten", changed: rewritten !== body, fields, state: twin.save(), body: rewritten };
    }
    case "reply": {
      const reader = exchange.reply(responseHeadOf(step.reply), step.verdict);
      if (reader === null) throw new WeirError("WEIR_INTERNAL", "A reply was handed out that nobody reads.");
      const out = Buffer.concat([reader.push(body), reader.end()]);
      return { is: "reply", body: out, masked: reader.masked, summary: reader.summary() };
    }
  }
}

function open({ family }: LargeTask, head: RequestHead, context: DialectContext): DialectExchange {
  if (family === "plain") return plainExchange(head, context);
  const exchange = (family === "llm" ? llmDialect : mcpDialect).open(head, context);
  if (exchange === null) throw new WeirError("WEIR_INTERNAL", `The request is none of ${family} here.`);
  return exchange;
}
