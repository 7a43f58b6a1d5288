/** What a command takes, read out of its help: there is no second list that could differ. */

export interface Listed {
  readonly summary: string;
  load(): Promise<unknown>;
}

export interface Described {
  readonly name: string;
  readonly summary: string;
  readonly help: string;
  /** `--state`, with what follows it; null: nothing does. */
  readonly options: readonly {
    readonly name: string;
    readonly value: string | null;
    readonly choices: readonly string[];
  }[];
  readonly subcommands: readonly string[];
}

export async function describe(name: string, listed: Listed): Promise<Described> {
  const { help = "" } = (await listed.load()) as { help?: string };
  return { name, summary: listed.summary, help, options: optionsOf(help), subcommands: subcommandsOf(name, help) };
}

/** Of the first lines, `weir trust install|remove|status …` and `weir approvals [ls|approve ID|…]`. */
function subcommandsOf(name: string, help: string): string[] {
  const found: string[] = [];
  for (const line of help.split("\n").filter((one) => one.startsWith(`weir ${name} `))) {
    const rest = line.slice(`weir ${name} `.length);
    const group = rest.startsWith("[") ? (/^\[([^\]]*)\]/.exec(rest)?.[1] ?? "") : (rest.split(" ")[0] ?? "");
    if (group.startsWith("-") || (rest.startsWith("[") && !group.includes("|"))) continue;
    found.push(...group.split("|").map((word) => word.split(" ")[0] ?? ""));
  }
  return [...new Set(found.filter((word) => /^[a-z][a-z-]*$/.test(word)))];
}

function optionsOf(help: string): Described["options"] {
  const found = new Map<string, Described["options"][number]>();
  // After a space or a bracket: an option in running text counts too, one inside a word does not.
  for (const match of help.matchAll(/(?<=^|[\s[(])(--[a-z][a-z-]*)(?:[ =]([A-Za-z][A-Za-z0-9:|.…]*|"[^"]*"))?/gm)) {
    const [, name = "", value = ""] = match;
    // What takes a value has it in capitals, or as a choice; a word of a sentence is neither.
    const isValue = /^"?[A-Z]{1,}|\|/.test(value);
    const choices = value.includes("|") ? value.split("|").filter((word) => /^[a-z]+$/.test(word)) : [];
    const before = found.get(name);
    if (before === undefined || (before.value === null && isValue))
      found.set(name, { name, value: isValue ? value.replaceAll('"', "") : null, choices });
  }
  found.delete("--help");
  return [...found.values(), { name: "--help", value: null, choices: [] }];
}
