/**
 * `weir.ocsf.v1`: what is stored goes out again as OCSF JSON, for SIEM connectors that read Kafka and no Avro. Sent after it is
 * stored and before the offsets are committed: at least once, in each session's order. Sessions come by different
 * partitions and controllers, so each session is an attestation chain of its own; it begins anew where another controller
 * takes the session up.
 */
import { topics } from "../../agent/kafka/topics.ts";
import type { OutMessage, Transport } from "../../agent/kafka/transport.ts";
import { inertJson } from "../../agent/record/inert.ts";
import { type OcsfChain, ocsfChain } from "../../agent/record/ocsf.ts";
import { type ReadEntry, simplify } from "../../agent/record/read.ts";
import { type CheckedBatch, nameOf, type RecordSink } from "../consume/sink.ts";

/** How a session began, for one that another controller has begun. */
export type FirstEntryOf = (session: string, agent: string) => Promise<ReadEntry | null>;

/** Sessions whose beginning is remembered, 2 KB each; of others it is asked again. */
const sessionsMax = 10_000;

export function withOcsfTopic(sink: RecordSink, transport: Transport, firstEntryOf: FirstEntryOf): RecordSink {
  const chains = new Map<string, OcsfChain>();

  async function chainOf(entry: ReadEntry): Promise<OcsfChain> {
    const name = nameOf(entry);
    let chain = chains.get(name);
    if (chain === undefined) {
      chain = ocsfChain(({ agent, session }) => `${agent}:${session}`);
      const first = entry.seq === 0 ? null : await firstEntryOf(entry.session, entry.agent);
      if (first !== null) chain.know(first);
    }
    chains.delete(name);
    if (entry.type === "SessionEnd") return chain;
    chains.set(name, chain);
    if (chains.size > sessionsMax) chains.delete(chains.keys().next().value as string);
    return chain;
  }

  return {
    tailsOf: (sessions) => sink.tailsOf(sessions),
    keyOf: (agent) => sink.keyOf(agent),
    pinKey: (agent, key) => sink.pinKey(agent, key),
    async store(batch: CheckedBatch) {
      await sink.store(batch);
      const messages: OutMessage[] = [];
      for (const { entry } of batch.entries) {
        const read = simplify(entry);
        const event = (await chainOf(read)).eventOf(read);
        const key = read.session === "agent" ? read.agent : read.session;
        messages.push({ topic: topics.ocsf, key, value: Buffer.from(inertJson(JSON.stringify(event))) });
      }
      if (messages.length > 0) await transport.send(messages);
    },
  };
}
