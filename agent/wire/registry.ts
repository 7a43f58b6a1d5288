/** Every protocol that Weir speaks: one line each. */
import { speaksHttp, type TargetProtocol } from "../core/operation.ts";
import type { Verdict } from "../core/verdict.ts";
import { grpcDialect } from "./grpc/dialect.ts";
import type { Dialect, ReplyReader } from "./http/dialect.ts";
import { type Masking, plansOf } from "./http/mask-plans.ts";
import type { RequestHead } from "./http/message.ts";
import { http1Protocol } from "./http1/protocol.ts";
import { llmDialect } from "./llm/dialect.ts";
import { mcpDialect } from "./mcp/dialect.ts";
import { opaqueProtocol } from "./opaque/protocol.ts";
import { postgresProtocol } from "./postgres/protocol.ts";
import type { Protocol } from "./protocol.ts";
import { WebSocketReply } from "./websocket/reply.ts";

/** APIs over HTTP, asked in this order; each looks at the target's protocol and the request's head. */
export const dialects: readonly Dialect[] = [mcpDialect, llmDialect, grpcDialect];

const httpProtocol = http1Protocol(dialects);

export const protocols: readonly Protocol[] = [postgresProtocol, httpProtocol, opaqueProtocol];

/** Protocols that a connection of HTTP/1.1 may change to, where their frames can be masked. */
export function openTunnel(head: RequestHead, verdict: Verdict, masking: Masking): ReplyReader | null {
  if (head.headers.get("upgrade")?.toLowerCase() !== "websocket") return null;
  const { reply } = plansOf(verdict, masking);
  return reply === null ? null : new WebSocketReply(reply);
}

export function protocolNamed(name: TargetProtocol): Protocol {
  if (speaksHttp(name)) return httpProtocol;
  const found = protocols.find((protocol) => protocol.name === name);
  if (found === undefined) throw new Error(`no protocol is named ${name}`);
  return found;
}

/** Loads what protocols need once (the SQL parser's WASM), before the first conversation. */
export async function prepareProtocols(): Promise<void> {
  await Promise.all(protocols.map((protocol) => protocol.prepare()));
}
