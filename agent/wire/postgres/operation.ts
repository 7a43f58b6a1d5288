/** StatementInfo → Operation: the words a policy speaks about. Lists are shared, never copied, where nothing is added. */
import type { Operation } from "../../core/operation.ts";
import type { StatementInfo } from "./describe/statement-info.ts";
import { operationTextBytesMax } from "./limits.ts";

export interface Speaker {
  readonly user: string;
  readonly database: string;
}

const none: readonly never[] = Object.freeze([]);

export function plainOperation(kind: Operation["kind"], speaker: Speaker, fields: Partial<Operation> = {}): Operation {
  return {
    protocol: "postgres",
    kind,
    text: "",
    user: speaker.user,
    database: speaker.database,
    verbs: none,
    relations: none,
    columns: none,
    functions: none,
    writes: false,
    traits: none,
    parameters: none,
    bytes: 0,
    ...fields,
  };
}

/**
 * `through` are the statements that the text runs by name (EXECUTE, FETCH): what they do counts as done by it.
 * `traits` are the ones that only the session knows (`encoding`, `nonstandard-strings`, `unknown-prepared`).
 */
export function statementOperation(
  kind: Operation["kind"],
  speaker: Speaker,
  text: string,
  info: StatementInfo,
  bytes: number,
  traits: readonly string[],
  through: readonly StatementInfo[] = none,
): Operation {
  return {
    protocol: "postgres",
    kind,
    text: cutText(text),
    user: speaker.user,
    database: speaker.database,
    verbs: merged(info.verbs, through, (other) => other.verbs),
    relations: merged(info.relations, through, (other) => other.relations),
    columns: merged(info.columns, through, (other) => other.columns),
    functions: merged(info.functions, through, (other) => other.functions),
    writes: info.writes || traits.length > 0 || through.some((other) => other.writes),
    traits:
      traits.length === 0 && through.length === 0
        ? info.traits
        : [...new Set<string>([...merged<string>(info.traits, through, (other) => other.traits), ...traits])],
    parameters: none,
    bytes,
  };
}

export function withParameters(operation: Operation, parameters: readonly (string | null)[], bytes: number): Operation {
  return parameters.length === 0 ? operation : { ...operation, parameters, bytes: operation.bytes + bytes };
}

function merged<T>(
  own: readonly T[],
  through: readonly StatementInfo[],
  of: (info: StatementInfo) => readonly T[],
): readonly T[] {
  if (through.length === 0) return own;
  const all = new Set(own);
  for (const info of through) for (const word of of(info)) all.add(word);
  return [...all];
}

function cutText(text: string): string {
  // A character takes at most 3 bytes for each UTF-16 unit, so most texts need no count.
  if (text.length * 3 <= operationTextBytesMax || Buffer.byteLength(text) <= operationTextBytesMax) return text;
  return Buffer.from(text)
    .toString("utf8", 0, operationTextBytesMax)
    .replace(/\ufffd$/, "");
}
