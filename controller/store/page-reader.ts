/** The page's questions, answered from the store. */
import type { RecordQuestion, RecordReader } from "../http/record-reader.ts";
import { parseSearch } from "./search.ts";
import type { Store } from "./store.ts";

export function readFromStore(store: Store): RecordReader {
  async function answerOf(question: RecordQuestion): Promise<unknown> {
    switch (question.type) {
      case "sessions": {
        const { search, beforeMs, limit } = question;
        const times = beforeMs === null ? {} : { fromMs: 0, toMs: beforeMs - 1 };
        return (await store.sessions({ ...parseSearch(search), ...times, limit })).sessions;
      }
      case "entries": {
        const { session, after, limit } = question;
        const entries = await store.entries(session, { from: after + 1, limit });
        return entries.length === 0 && (await store.session(session)) === null ? null : entries;
      }
      case "verify":
        return verification(store);
    }
  }

  return {
    async ask(question) {
      const value = await answerOf(question);
      return value === null ? null : JSON.stringify(value);
    },
    // The store is closed by who opened it.
    async close() {},
  };
}

/** Chains are followed as entries come: this tells how far, and what is wrong. */
async function verification(store: Store) {
  await store.advance();
  const agents = await store.agents();
  const broken = agents.find((agent) => agent.broken !== null);
  const missing = agents.find((agent) => agent.missing !== null);
  const sentence =
    broken?.broken ??
    (missing ? `Entry ${missing.missing} of agent ${missing.agent} is not here, and later ones are.` : null);
  const sum = (of: (agent: (typeof agents)[number]) => number) => agents.reduce((all, agent) => all + of(agent), 0);
  return {
    ok: sentence === null,
    entries: sum(({ size }) => size),
    sessions: 0,
    heads: agents.length,
    interruptions: 0,
    unsigned: sum(({ size, signed }) => size - signed),
    firstBad:
      sentence === null
        ? null
        : { fault: "altered", session: null, agentSeq: null, segment: null, offset: null, sentence },
  };
}
