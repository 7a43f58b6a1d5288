/** The manual page weir(8), in man(7) macros: each command's help as it stands. */
import type { Described } from "./words.ts";

export function manualPage(commands: readonly Described[]): string {
  const lines = [
    '.TH WEIR 8 "" "Weir" "System administration"',
    ".SH NAME",
    "weir \\- decides, masks and records what leaves a host",
    ".SH SYNOPSIS",
    ".B weir",
    ".I command",
    ".RI [ options ]",
    ".SH DESCRIPTION",
    "Weir takes every connection that leaves a Linux host for a database, a language model, an MCP server or an API, ends the",
    "TLS in between, reads the protocol, decides by policy, and records what was done. What no policy names does not leave.",
    ".SH COMMANDS",
    ...commands.flatMap(({ name, summary, help }) => [
      `.SS ${escaped(`weir ${name}`)}`,
      `${escaped(sentence(summary))}`,
      ".PP",
      ".nf",
      ...help.trimEnd().split("\n").map(escaped),
      ".fi",
    ]),
    ".SH EXIT STATUS",
    ...[
      ["0", "ok"],
      ["1", "the answer is no"],
      ["2", "wrong use"],
      ["3", "cannot run here"],
      ["10 to 17", "what weir verify found"],
    ].flatMap(([code = "", meaning = ""]) => [".TP", `.B ${code}`, meaning]),
    ".PP",
    "That of weir run is its command's.",
    ".SH ENVIRONMENT",
    ...[
      ["WEIR_STATE", "the state directory, where no \\-\\-state is said"],
      ["WEIR_CONTROLLER_STATE", "that of weir controller and weir policy publish"],
      ["WEIR_TLS", "native or node, where no \\-\\-tls is said"],
      ["WEIR_KAFKA_PASSWORD", "the password for Kafka"],
      ["WEIR_HEC_TOKEN", "the token of an HTTP event collector, for weir export"],
    ].flatMap(([name = "", meaning = ""]) => [".TP", `.B ${name}`, meaning]),
    ".SH FILES",
    ...[
      ["/etc/weir/weir.yaml", "settings of the installed agent"],
      ["/etc/weir/policy", "its policy, read again when it changes"],
      ["/etc/weir/firewall", "the rules that stand while no agent runs"],
      ["/var/lib/weir", "the record, its keys, the certificate authority"],
      ["/run/weir/control.sock", "where the commands ask the agent"],
    ].flatMap(([path = "", meaning = ""]) => [".TP", `.I ${escaped(path)}`, meaning]),
    ".SH SEE ALSO",
    ".BR systemctl (1),",
    ".BR journalctl (1),",
    ".BR iptables (8)",
    "",
  ];
  return lines.join("\n");
}

/** A dot or a quote at the front would be a request; a hyphen is a minus, so that an option can be copied. */
function escaped(text: string): string {
  return text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replace(/^([.'])/, "\\&$1")
    .replace(/[^\0-\x7f]/gu, (sign) => `\\[u${sign.codePointAt(0)?.toString(16).toUpperCase().padStart(4, "0")}]`);
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
