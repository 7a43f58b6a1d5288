/** Which entry goes to which topic: README.md has the table. */

import type { Framing } from "../kafka/framing.ts";
import { kindHeader, topics } from "../kafka/topics.ts";
import type { OutMessage } from "../kafka/transport.ts";
import { entryType } from "../record/schema.ts";
import type { PublishedHead } from "./heads-follower.ts";
import { type EntryPeek, peekEntry } from "./peek.ts";

/** The agent's own session has the same name on every agent: its key is the agent's. */
export function keyOf({ session, agent }: Pick<EntryPeek, "session" | "agent">): string {
  return session === "agent" ? agent : session;
}

/** Messages of some payloads in order. Their values are parts of one buffer: one by one they would cost twice the time. */
export function entryMessages(
  payloads: readonly Buffer[],
  peeks: readonly EntryPeek[],
  framing: Framing,
): OutMessage[] {
  const messages: OutMessage[] = [];
  const heads = peeks.map(({ writer }) => framing(writer));
  const bytes = payloads.reduce((sum, payload, at) => sum + payload.length + (heads[at] as Buffer).length, 0);
  const buffer = Buffer.allocUnsafeSlow(bytes);
  let end = 0;
  for (const [at, payload] of payloads.entries()) {
    const start = end;
    end += (heads[at] as Buffer).copy(buffer, start);
    end += payload.copy(buffer, end);
    const peek = peeks[at] as EntryPeek;
    const key = keyOf(peek);
    const value = buffer.subarray(start, end);
    messages.push({ topic: topics.sessions, key, value });
    if (peek.notable) messages.push({ topic: topics.verdicts, key, value });
  }
  return messages;
}

/** What cannot be read goes out, too: its reader puts it aside with a reason, and nothing waits behind it. */
export function peeksOf(payloads: readonly Buffer[]): EntryPeek[] {
  return payloads.map((payload) => {
    try {
      return peekEntry(payload);
    } catch {
      return unreadable;
    }
  });
}

const unreadable: EntryPeek = {
  agent: "",
  agentSeq: -1,
  session: "unreadable",
  seq: -1,
  notable: false,
  writer: entryType,
};

export function headMessage(agent: string, { line }: Pick<PublishedHead, "line">): OutMessage {
  return { topic: topics.checkpoints, key: agent, value: Buffer.from(line), headers: { [kindHeader]: "head" } };
}

/** Who publishes: the key that its heads are signed with, and the schema its entries are written with. */
export function agentMessage(agent: string, publicKey: string, schema: string): OutMessage {
  const value = Buffer.from(JSON.stringify({ agent, publicKey, schema }));
  return { topic: topics.checkpoints, key: agent, value, headers: { [kindHeader]: "agent" } };
}
