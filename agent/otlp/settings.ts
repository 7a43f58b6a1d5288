/**
 * Where traces and metrics go: `--otlp URL`, else the environment as OpenTelemetry's specification has it (OTLP exporter
 * configuration). Without either nothing of this folder is loaded.
 */
import { readFileSync } from "node:fs";
import { WeirError, whyUnread } from "../errors.ts";

export interface OtlpSettings {
  /** Without a slash at its end; `/v1/traces` and `/v1/metrics` come behind it. */
  readonly endpoint: string;
  readonly headers: Readonly<Record<string, string>>;
  /** PEM text of the authorities that the receiver's certificate is checked with; null: the system's. */
  readonly ca: string | null;
  /** What the environment says of this process; `service.name` among it counts more than ours. */
  readonly resource: Readonly<Record<string, string>>;
  readonly metricsEveryMs: number;
}

export const otlpHelp = `  --otlp URL                traces and metrics to an OpenTelemetry receiver by OTLP/HTTP (docs/soc.md); also
                            OTEL_EXPORTER_OTLP_ENDPOINT, _HEADERS, _CERTIFICATE (default: none)
`;

const metricsEveryMsDefault = 60_000;
const metricsEveryMsMin = 1_000;
const headersMax = 32;

/** Null: nobody wants them. Throws WEIR_USAGE. */
export function readOtlp(given: string | undefined, env: NodeJS.ProcessEnv): OtlpSettings | null {
  const off = env["OTEL_SDK_DISABLED"]?.toLowerCase() === "true";
  const named = given ?? (off ? "" : (env["OTEL_EXPORTER_OTLP_ENDPOINT"] ?? ""));
  if (named === "") return null;
  const from = given === undefined ? "OTEL_EXPORTER_OTLP_ENDPOINT" : "--otlp";
  const url = URL.canParse(named) ? new URL(named) : null;
  if (url === null || !isSafe(url) || url.search !== "" || url.hash !== "")
    throw new WeirError("WEIR_USAGE", `${from} ${named}: an https address is expected (http on loopback only).`);
  if (url.username !== "" || url.password !== "")
    throw new WeirError("WEIR_USAGE", `${from}: a secret in a URL is seen by many; use OTEL_EXPORTER_OTLP_HEADERS.`);
  const certificate = env["OTEL_EXPORTER_OTLP_CERTIFICATE"] ?? "";
  const every = Number(env["OTEL_METRIC_EXPORT_INTERVAL"] ?? metricsEveryMsDefault);
  return {
    endpoint: url.href.replace(/\/+$/, ""),
    headers: pairs(env, "OTEL_EXPORTER_OTLP_HEADERS"),
    ca: certificate === "" ? null : contents(certificate),
    resource: {
      ...pairs(env, "OTEL_RESOURCE_ATTRIBUTES"),
      ...(env["OTEL_SERVICE_NAME"] ? { "service.name": env["OTEL_SERVICE_NAME"] } : {}),
    },
    metricsEveryMs: Number.isFinite(every) ? Math.max(every, metricsEveryMsMin) : metricsEveryMsDefault,
  };
}

/** What goes in plain text may be read by anybody on the way. */
function isSafe({ protocol, hostname }: URL): boolean {
  if (protocol === "https:") return true;
  return protocol === "http:" && (["localhost", "[::1]"].includes(hostname) || /^127\.\d+\.\d+\.\d+$/.test(hostname));
}

/** `a=1,b=2`, values percent-encoded (W3C Baggage without properties). The values stand in no sentence: they may be keys. */
function pairs(env: NodeJS.ProcessEnv, name: string): Record<string, string> {
  const found: [string, string][] = [];
  for (const pair of (env[name] ?? "").split(",").filter((part) => part.trim() !== "")) {
    const [, key = "", value = ""] = /^\s*([^=\s]+)\s*=\s*(.*?)\s*$/.exec(pair) ?? [];
    let text = "";
    try {
      text = decodeURIComponent(value);
    } catch {
      text = "\n";
    }
    if (!/^[\w.!#$%&'*+^`|~-]+$/.test(key) || !/^[\x20-\x7e]*$/.test(text) || found.length >= headersMax)
      throw new WeirError(
        "WEIR_USAGE",
        `${name}: NAME=VALUE,… is expected, at most ${headersMax}, values percent-encoded.`,
      );
    found.push([key, text]);
  }
  return Object.fromEntries(found);
}

function contents(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new WeirError("WEIR_USAGE", `OTEL_EXPORTER_OTLP_CERTIFICATE ${path} cannot be read: ${whyUnread(cause)}.`, {
      cause,
    });
  }
}
