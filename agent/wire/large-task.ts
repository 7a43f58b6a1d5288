/** Works on a body that was handed out (`http/large-body.ts`), wherever there is time for it. */
import type { Verdict } from "../core/verdict.ts";
import { WeirError } from "../errors.ts";
import type { OwnDetectors } from "../mask/plan.ts";
import { grpcDialect } from "./grpc/dialect.ts";
import type { Described, DialectContext, DialectExchange, ReplyReader } from "./http/dialect.ts";
import {
  asBuffer,
  type LargeDone,
  type LargeReply,
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
  /** Of a gRPC target; the same buffer for the same set, as it is read once. */
  readonly grpcDescriptors?: Buffer | null;
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
      grpcDescriptors: context.grpcDescriptors ?? null,
      would: (described) => answer({ about: "would", described }, allowed) as Verdict,
      pin: (name, digest, text) =>
        answer({ about: "pin", name, digest, text }, null) as ReturnType<DialectContext["pin"]>,
      pinned: (name) => answer({ about: "pinned", name }, null) as ReturnType<DialectContext["pinned"]>,
    });
  } catch (error) {
    done = failedBy(error, task.step.do);
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

function failedBy(error: unknown, of: LargeTask["step"]["do"]): LargeDone {
  if (error instanceof WeirError) return { is: "failed", of, code: error.code, message: error.message };
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { is: "failed", of, code: "WEIR_INTERNAL", message };
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
      const rewritten = exchange.rewrite?.(body, step.verdict) ?? body;
      const fields = head.headers.changed ? head.headers.fields : null;
      return { is: "rewritten", changed: rewritten !== body, fields, state: twin.save(), body: rewritten };
    }
    case "message": {
      const tunnel = exchange.tunnel?.(step.verdict) ?? null;
      if (tunnel === null) throw unread();
      tunnel.restore(step.tunnel);
      return { is: "message", ...tunnel.part(body, step.redact), tunnel: tunnel.save() };
    }
    case "forward":
      return { is: "forwarded", ...read(exchange.forward?.(step.verdict) ?? null, body) };
    case "reply":
      return { is: "reply", ...replied(exchange, step, body) };
  }
}

type ReplyStep = Extract<LargeTask["step"], { do: "reply" }>;

function replied(exchange: DialectExchange, { verdict, reply, stream }: ReplyStep, body: Buffer): LargeReply {
  const reader =
    reply === null ? (exchange.tunnel?.(verdict).reply ?? null) : exchange.reply(responseHeadOf(reply), verdict);
  if (stream === undefined) return read(reader, body);
  if (reader?.restore === undefined || reader.part === undefined) throw unread();
  reader.restore(stream);
  const out = reader.part(body);
  return { body: out, masked: reader.masked, summary: reader.summary(), stream: reader.save?.() };
}

function read(reader: ReplyReader | null, body: Buffer): LargeReply {
  if (reader === null) throw unread();
  const out = Buffer.concat([reader.push(body), reader.end()]);
  return { body: out, masked: reader.masked, summary: reader.summary() };
}

function unread(): WeirError {
  return new WeirError("WEIR_INTERNAL", "A body was handed out that nobody reads.");
}

const dialects = { llm: llmDialect, mcp: mcpDialect, grpc: grpcDialect } as const;

function open({ family }: LargeTask, head: RequestHead, context: DialectContext): DialectExchange {
  if (family === "plain") return plainExchange(head, context);
  const exchange = dialects[family].open(head, context);
  if (exchange === null) throw new WeirError("WEIR_INTERNAL", `The request is none of ${family} here.`);
  return exchange;
}
