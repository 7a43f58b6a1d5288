/** Completion for bash, zsh and fish. After `--` of `weir run` the command's own completion goes on. */
import type { Described } from "./words.ts";

export function bashCompletion(commands: readonly Described[]): string {
  const cases = commands.map(({ name, options, subcommands }) => {
    const values = options.flatMap((option) => {
      if (option.choices.length > 0) return [`      ${option.name}) words="${option.choices.join(" ")}" ;;`];
      return option.value === null ? [] : [`      ${option.name}) COMPREPLY=($(compgen -f -- "$word")); return ;;`];
    });
    return [
      `    ${name})`,
      `      case "$before" in`,
      ...values,
      `      *) words="${[...subcommands, ...options.map((option) => option.name)].join(" ")}" ;;`,
      "      esac ;;",
    ].join("\n");
  });
  return `# bash completion for weir; made by \`weir completion bash\`
_weir() {
  local word=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD-1]} words=""
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "${commands.map(({ name }) => name).join(" ")} --help" -- "$word"))
    return
  fi
  local at
  for ((at = 2; at < COMP_CWORD; at++)); do
    if [ "\${COMP_WORDS[1]}" = run ] && [ "\${COMP_WORDS[at]}" = -- ]; then
      COMPREPLY=($(compgen -c -f -- "$word"))
      return
    fi
  done
  case "\${COMP_WORDS[1]}" in
${cases.join("\n")}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
  [ \${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- "$word"))
}
complete -o filenames -F _weir weir
`;
}

export function zshCompletion(commands: readonly Described[]): string {
  const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
  const list = commands.map(({ name, summary }) => `    ${quoted(`${name}:${summary.replaceAll(":", "\\:")}`)}`);
  const cases = commands.map(({ name, options, subcommands }) => {
    const specs = options.map(({ name: option, value, choices }) => {
      if (value === null) return quoted(option);
      return quoted(
        choices.length > 0
          ? `${option}:choice:(${choices.join(" ")})`
          : `${option}:${value.replaceAll(":", "\\:")}:_files`,
      );
    });
    if (name === "run") specs.push(quoted("*::command:_normal"));
    else if (subcommands.length > 0) specs.push(quoted(`1:what:(${subcommands.join(" ")})`), quoted("*:file:_files"));
    else specs.push(quoted("*:file:_files"));
    return `    ${name}) _arguments ${specs.join(" ")} ;;`;
  });
  return `#compdef weir
# made by \`weir completion zsh\`
_weir() {
  local -a commands
  commands=(
${list.join("\n")}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
${cases.join("\n")}
  esac
}
_weir "$@"
`;
}

export function fishCompletion(commands: readonly Described[]): string {
  const quoted = (text: string): string => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
  const lines = commands.flatMap(({ name, summary, options, subcommands }) => {
    const inside = `complete -c weir -n '__fish_seen_subcommand_from ${name}'`;
    return [
      `complete -c weir -f -n __fish_use_subcommand -a ${name} -d ${quoted(summary)}`,
      ...(subcommands.length > 0 ? [`${inside} -a ${quoted(subcommands.join(" "))}`] : []),
      ...options.map(({ name: option, value, choices }) => {
        const word = `${inside} -l ${option.slice(2)}`;
        if (value === null) return word;
        return choices.length > 0 ? `${word} -x -a ${quoted(choices.join(" "))}` : `${word} -r`;
      }),
    ];
  });
  return `# made by \`weir completion fish\`\n${lines.join("\n")}\n`;
}
