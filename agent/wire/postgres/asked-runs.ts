/** What is asked of a client's message: its operation, by what the session knows of the names that it uses. */
import type { Operation } from "../../core/operation.ts";
import type { StatementInfo } from "./describe/statement-info.ts";
import { type BindMessage, readFunctionCall, readParse, readQuery } from "./frontend-messages.ts";
import { callOperation } from "./function-call.ts";
import type { Found } from "./names.ts";
import { plainOperation, statementOperation, withParameters } from "./operation.ts";
import { replicationCommand } from "./replication.ts";
import { newRun, type Prepared, type Run } from "./run.ts";
import type { SessionState } from "./state.ts";

/** "in-flux": what a name means is known when everything sent so far is answered. */
export type Asked = Run | "in-flux";

export function queryRun(state: SessionState, bytes: Buffer, start: number, end: number): Asked {
  const { from, to } = readQuery(bytes, start, end);
  const { text, traits } = state.text(bytes, from, to);
  const command = state.replicates ? replicationCommand(text) : null;
  const info = command ?? state.describe(text);
  const through = state.names.through(info, state.batch);
  if (through === "in-flux") return through;
  const operation = statementOperation(
    command === null ? "statement" : "replication",
    state.speaker,
    text,
    info,
    end - start,
    unknownAdded(traits, through),
    known(through),
  );
  return newRun(state.nextAskId++, operation, info, known(through));
}

export function parseRun(state: SessionState, bytes: Buffer, start: number, end: number): Asked {
  const { from, to } = readParse(bytes, start, end);
  const { text, traits } = state.text(bytes, from, to);
  const info = state.describe(text);
  const operation = statementOperation("prepare", state.speaker, text, info, end - start, traits);
  return newRun(state.nextAskId++, operation, info);
}

/** `length`: of the message that the Bind came in. */
export function bindRun(state: SessionState, bind: BindMessage, length: number): Asked {
  const prepared = state.names.statements.find(bind.statement, state.batch);
  if (prepared === "in-flux") return prepared;
  const through: Found<(StatementInfo | null)[]> =
    prepared?.info == null ? [] : state.names.through(prepared.info, state.batch);
  if (through === "in-flux") return through;
  const operation = withParameters(boundOperation(state, prepared, bind, through), bind.parameters, length);
  return newRun(state.nextAskId++, operation, prepared?.info ?? null, known(through));
}

/** An Execute of no portal that was bound: a cursor made in SQL, or one that we know nothing of. */
export function cursorRun(state: SessionState, name: string, bytes: number): Run {
  const cursor = state.names.cursor(name) ?? null;
  const operation =
    cursor === null
      ? plainOperation("statement", state.speaker, { traits: ["unknown-prepared"], writes: true, bytes })
      : statementOperation("statement", state.speaker, "", cursor, bytes, []);
  return newRun(state.nextAskId++, operation, cursor);
}

export function callRun(state: SessionState, bytes: Buffer, start: number, end: number): Asked {
  const { oid } = readFunctionCall(bytes, start, end);
  const call = { oid, bytes: end - start };
  const { operation, info } = callOperation(state.speaker, call, (text) => state.describe(text));
  return newRun(state.nextAskId++, operation, info);
}

function boundOperation(
  state: SessionState,
  prepared: Prepared | null,
  bind: BindMessage,
  through: readonly (StatementInfo | null)[],
): Operation {
  if (prepared?.info == null)
    return plainOperation("statement", state.speaker, {
      text: prepared?.text ?? "",
      traits: ["unknown-prepared"],
      writes: true,
      functions: [],
      relations: [],
      bytes: bind.parameters.length,
    });
  if (through.length === 0 && prepared.operation !== null) return prepared.operation;
  const operation = statementOperation(
    "statement",
    state.speaker,
    prepared.text,
    prepared.info,
    prepared.bytes,
    unknownAdded(prepared.traits, through),
    known(through),
  );
  if (through.length === 0) prepared.operation = operation;
  return operation;
}

function known(through: readonly (StatementInfo | null)[]): readonly StatementInfo[] {
  return through.length === 0 ? none : through.filter((info) => info !== null);
}

function unknownAdded(traits: readonly string[], through: readonly (StatementInfo | null)[]): readonly string[] {
  return through.includes(null) ? [...traits, "unknown-prepared"] : traits;
}

const none: readonly never[] = Object.freeze([]);
