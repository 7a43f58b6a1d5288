/** The smallest engine: it answers commands at once, so that a transcript is one synchronous run. */
import type { Operation } from "../../../agent/core/operation.ts";
import type { EntryBody } from "../../../agent/core/record.ts";
import type { Decision } from "../../../agent/core/verdict.ts";
import { decide, loadPolicy } from "../../../agent/policy/index.ts";
import type { Command, ConversationContext, Protocol, WireEvent } from "../../../agent/wire/protocol.ts";

export interface Transcript {
  readonly client: Buffer;
  readonly server: Buffer;
  readonly records: EntryBody[];
  readonly closed: string | null;
  readonly heldBytesMax: number;
  readonly commands: Command[];
}

const text = `apiVersion: weir/v1
mode: enforce
targets: { db: { protocol: postgres, hosts: ["127.0.0.1"], ports: [5432], tls: { verify: none } } }
rules:
  - { name: no-destruction, match: { verb: [drop, truncate] }, verdict: deny, reason: "Destructive." }
`;
const loaded = loadPolicy([{ file: "engine.yaml", text }]);
if ("errors" in loaded) throw new Error("the engine's policy is bad");
const { policy } = loaded;
const target = policy.targets[0];

export const decideForTest = (operation: Operation): Decision => {
  if (target === undefined) throw new Error("no target");
  const flow = {
    id: "flow",
    destination: { address: "127.0.0.1", port: 5432 },
    source: { address: "127.0.0.1", port: 1 },
    hostname: null,
    process: null,
    identity: null,
    openedAtMs: 0,
    via: "redirect" as const,
  };
  return decide(policy, { flow, target, operation });
};

export const contextForTest: ConversationContext = {
  destinationPort: 5432,
  credential: null,
  upstreamTlsRequired: false,
  random: (bytes) => Buffer.alloc(bytes, 7),
  now: () => 0,
  http: {
    destination: {
      address: "127.0.0.1",
      port: 5432,
      hostname: "api.internal",
      serverName: "api.internal",
      hosts: [{ kind: "any" }],
    },
    scheme: "https",
    targetProtocol: "http",
    credential: null,
    maskKey: Buffer.alloc(32, 7),
    custom: new Map(),
    would: (described) => decideForTest({ ...describedOnly, ...described }).verdict,
    pin: () => null,
    pinned: () => null,
    tunnel: () => null,
    named: { held: () => () => {}, giveUp: () => {} },
  },
};

const describedOnly = {
  kind: "request" as const,
  user: "",
  database: "",
  relations: [],
  columns: [],
  functions: [],
  parameters: [],
  bytes: 0,
};

/** Runs the events; what a command asks for comes as the next event. */
export function transcript(
  protocol: Protocol,
  events: readonly WireEvent[],
  context: ConversationContext = contextForTest,
  decideOne: (operation: Operation) => Decision = decideForTest,
): Transcript {
  const conversation = protocol.open(context);
  const client: Buffer[] = [];
  const server: Buffer[] = [];
  const records: EntryBody[] = [];
  const commands: Command[] = [];
  let closed: string | null = null;
  let heldBytesMax = 0;
  const queue: WireEvent[] = [];
  const feed = (event: WireEvent): void => {
    queue.push(event);
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const out: Command[] = [];
      conversation.handle(next, out);
      heldBytesMax = Math.max(heldBytesMax, conversation.heldBytes);
      for (const command of out) {
        commands.push(command);
        if (command.type === "send-client") client.push(command.bytes);
        else if (command.type === "send-server") server.push(command.bytes);
        else if (command.type === "record") records.push(command.body);
        else if (command.type === "ask")
          queue.unshift({
            type: "decision",
            askId: command.askId,
            decision: decideOne(command.operation),
            approvalId: null,
          });
        else if (command.type === "dial") queue.push({ type: "server-ready", tls: null });
        else if (command.type === "start-client-tls")
          queue.push({ type: "client-tls", tls: { alpn: null, certificate: null } });
        else if (command.type === "catalog") queue.push({ ...command, columns: [], version: null, failed: true });
        else if (command.type === "close") closed = command.reason;
      }
    }
  };
  for (const event of events) {
    if (closed !== null) break;
    feed(event);
  }
  return { client: Buffer.concat(client), server: Buffer.concat(server), records, closed, heldBytesMax, commands };
}

/** mulberry32: a seeded source of numbers in [0, 1). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
