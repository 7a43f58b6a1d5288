/**
 * The keys of `match` that speak about a request over HTTP. Their subject is null for an operation without such
 * facts: then they do not match, not even under `not`.
 *
 * A server may take a name for another than it looks like (letter case, `//`, `%2F`, `;parameters`): such spellings
 * count against the client, see match.ts.
 */
import { compileGlob, type Glob } from "./glob.ts";
import type { PolicyCase } from "./policy.ts";

type Pattern = string | number | boolean;
type Patterns = Pattern | readonly Pattern[];

export type Wanted = Patterns | { readonly not: Patterns } | { readonly only: Patterns };

/** `any`: one element may do; `not`: none may match; `only`: there are some, and all match. */
export function readWanted(wanted: Wanted): { how: "any" | "not" | "only"; patterns: string[] } {
  if (typeof wanted === "object" && "not" in wanted) return { how: "not", patterns: [wanted.not].flat().map(String) };
  if (typeof wanted === "object" && "only" in wanted)
    return { how: "only", patterns: [wanted.only].flat().map(String) };
  return { how: "any", patterns: [wanted].flat().map(String) };
}

export interface Key {
  readonly textual: boolean;
  readonly ofRequest: boolean;
  /** null: the operation has no such thing. */
  readonly subject: (asked: PolicyCase) => string | readonly string[] | null;
  readonly compile: (pattern: string, uncertain: boolean) => Glob;
}

const ofRequest = { textual: true, ofRequest: true };
/** APIs that name a model in every request. */
const modelApis = new Set(["chat", "responses", "messages", "completions", "embeddings", "realtime"]);

const looseCase = (pattern: string, uncertain: boolean): Glob => compileGlob(pattern, { ignoreCase: uncertain });

export const requestKeys: Readonly<Record<string, Key>> = {
  method: {
    ...ofRequest,
    subject: ({ operation }) => operation.http?.method ?? null,
    compile: (pattern, uncertain) => compileGlob(pattern.toUpperCase(), { ignoreCase: uncertain }),
  },
  path: { ...ofRequest, subject: ({ operation }) => operation.http?.path ?? null, compile: compilePath },
  host: {
    ...ofRequest,
    subject: ({ operation }) => operation.http?.host ?? null,
    compile: (pattern) => compileGlob(pattern, { ignoreCase: true }),
  },
  contentType: {
    ...ofRequest,
    subject: ({ operation }) => operation.http?.contentType ?? null,
    compile: (pattern) => compileGlob(pattern, { ignoreCase: true }),
  },
  provider: {
    ...ofRequest,
    subject: ({ operation }) => operation.llm?.provider ?? null,
    compile: (pattern) => compileGlob(pattern),
  },
  model: { ...ofRequest, subject: modelOf, compile: compileModel },
  stream: {
    ...ofRequest,
    subject: ({ operation }) => (operation.llm === undefined ? null : String(operation.llm.stream)),
    compile: (pattern) => compileGlob(pattern),
  },
  tool: { ...ofRequest, subject: toolsOf, compile: looseCase },
  resource: { ...ofRequest, subject: resourceOf, compile: looseCase },
  name: { ...ofRequest, subject: ({ operation }) => operation.mcp?.name ?? null, compile: looseCase },
};

/** What it looks like, and what a lenient server may make of it. */
function compilePath(pattern: string, uncertain: boolean): Glob {
  const glob = compileGlob(pattern, { ignoreCase: uncertain });
  if (!uncertain) return (path) => glob(path) && !climbs(path);
  return (path) => {
    if (glob(path)) return true;
    const other = looselyRead(path);
    return other !== path && glob(other);
  };
}

/** `/files/..%2Fadmin`: dot segments that only show once escapes are undone, or that a parameter hides. */
function climbs(path: string): boolean {
  return /%|\/\./.test(path) && /(?:^|[/\\])\.\.?(?:[/\\;]|$)/.test(unescaped(path));
}

/** Escapes undone, `//` and a last slash taken out, `;parameters` too, dot segments resolved. */
function looselyRead(path: string): string {
  if (!/[%;]|\/\/|\/\.|.\/$/.test(path)) return path;
  const kept: string[] = [];
  for (const segment of unescaped(path).split("/")) {
    const [plain = ""] = segment.split(";", 1);
    if (plain === "..") kept.pop();
    else if (plain !== "" && plain !== ".") kept.push(plain);
  }
  return `/${kept.join("/")}`;
}

function unescaped(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path.replace(/%([0-7][0-9A-Fa-f])/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  }
}

/** The empty text: a request that has to name a model and names none that was found. */
function modelOf({ operation: { llm } }: PolicyCase): string | null {
  return llm === undefined || (llm.model === "" && !modelApis.has(llm.api)) ? null : llm.model;
}

function compileModel(pattern: string, uncertain: boolean): Glob {
  const glob = looseCase(pattern, uncertain);
  return (model) => (model === "" ? uncertain : glob(model));
}

function toolsOf({ operation: { mcp, llm } }: PolicyCase): string | readonly string[] | null {
  if (mcp !== undefined) return mcp.method === "tools/call" ? mcp.name : null;
  return llm === undefined ? null : llm.tools;
}

function resourceOf({ operation: { mcp } }: PolicyCase): string | null {
  return mcp?.method.startsWith("resources/") === true && mcp.name !== "" ? mcp.name : null;
}

/** Facts that only a request over HTTP has. */
export function isRequest({ operation }: PolicyCase): boolean {
  const { http, llm, mcp, grpc } = operation;
  return http !== undefined || llm !== undefined || mcp !== undefined || grpc !== undefined;
}
