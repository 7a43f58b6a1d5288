/** Numbers for Prometheus: text format 0.0.4. Pure. */

export interface Metric {
  /** Without `weir_`; a counter's ends with `_total`. */
  readonly name: string;
  readonly help: string;
  readonly type: "counter" | "gauge";
  /** A number, or one for each value of a label. */
  readonly value: number | Labelled;
}

export interface Labelled {
  readonly label: string;
  readonly values: Readonly<Record<string, number>>;
}

export const metricsContentType = "text/plain; version=0.0.4; charset=utf-8";

export function renderMetrics(metrics: readonly Metric[]): string {
  return metrics
    .map(({ name, help, type, value }) => {
      const full = `weir_${name}`;
      const lines =
        typeof value === "number"
          ? [`${full} ${value}`]
          : Object.entries(value.values).map(
              ([key, number]) => `${full}{${value.label}="${escapeLabel(key)}"} ${number}`,
            );
      return [`# HELP ${full} ${escapeHelp(help)}`, `# TYPE ${full} ${type}`, ...lines]
        .map((line) => `${line}\n`)
        .join("");
    })
    .join("");
}

function escapeLabel(text: string): string {
  return text.replace(/["\\]/g, "\\$&").replaceAll("\n", "\\n");
}

function escapeHelp(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
}
