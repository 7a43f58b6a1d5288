/** Where the record is forwarded to, as a URL on the command line. */
import { readFileSync } from "node:fs";
import { WeirError, whyUnread } from "../errors.ts";
import { type FormatName, formatNames } from "../record/formats.ts";

export interface ForwardTarget {
  readonly kind: "syslog" | "hec";
  readonly url: URL;
  readonly format: FormatName;
  /** PEM of the authorities that are trusted; null: the system's. */
  readonly ca: string | null;
  /** Of the HTTP event collector. */
  readonly token: string | null;
}

export const targetHelp = `  --to syslog+tls://HOST[:6514]   RFC 5424 messages over TLS (RFC 5425)
  --to https://HOST:PORT/services/collector/event
                                  an HTTP event collector as Splunk has it; its token from --token-file or WEIR_HEC_TOKEN
  --ca FILE                       authorities that the receiver's certificate is checked with (default: the system's)
`;

/** Throws WEIR_USAGE. */
export function readTarget(words: {
  readonly to: string;
  readonly format: string | undefined;
  readonly ca: string | undefined;
  readonly tokenFile: string | undefined;
  readonly env: NodeJS.ProcessEnv;
}): ForwardTarget {
  const { to } = words;
  const url = URL.canParse(to) ? new URL(to) : null;
  const kind = url?.protocol === "syslog+tls:" ? "syslog" : url?.protocol === "https:" ? "hec" : null;
  if (url === null || kind === null || url.hostname === "")
    throw new WeirError("WEIR_USAGE", `--to ${to}: syslog+tls://HOST:PORT or https://HOST/PATH is expected.`);
  if (url.username !== "" || url.password !== "")
    throw new WeirError("WEIR_USAGE", "--to: a secret in a URL stands in the list of processes; use --token-file.");
  const wanted = words.format ?? "ocsf";
  const format = formatNames.find((name) => name === wanted && name !== "csv");
  if (format === undefined || (kind === "hec" && format === "cef"))
    throw new WeirError(
      "WEIR_USAGE",
      `--format ${wanted}: ${kind === "hec" ? "ocsf or jsonl" : "ocsf, jsonl or cef"} is expected.`,
    );
  const token = words.tokenFile === undefined ? words.env["WEIR_HEC_TOKEN"] : read(words.tokenFile).trim();
  if (kind === "hec" && !/^[\x21-\x7e]{1,1024}$/.test(token ?? ""))
    throw new WeirError(
      "WEIR_USAGE",
      "--to https://…: the collector's token is missing: --token-file or WEIR_HEC_TOKEN.",
    );
  return { kind, url, format, ca: words.ca === undefined ? null : read(words.ca), token: token ?? null };
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new WeirError("WEIR_USAGE", `${path} cannot be read: ${whyUnread(cause)}.`, { cause });
  }
}
