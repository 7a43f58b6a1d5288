/** The numbers of `/metrics` as OTLP has them: cumulative sums and gauges. */
import type { Metric } from "../health/metrics.ts";
import { attributes, nanos } from "./json.ts";

/** AGGREGATION_TEMPORALITY_CUMULATIVE. */
const cumulative = 2;

export function otlpMetrics(metrics: readonly Metric[], startMs: number, nowMs: number): object[] {
  return metrics.map(({ name, help, type, value }) => {
    const points = typeof value === "number" ? [[{}, value] as const] : labelled(value);
    const dataPoints = points.map(([labels, number]) => ({
      ...(type === "counter" ? { startTimeUnixNano: nanos(startMs) } : {}),
      timeUnixNano: nanos(nowMs),
      attributes: attributes(labels),
      ...(Number.isSafeInteger(number) ? { asInt: String(number) } : { asDouble: number }),
    }));
    return {
      name: `weir.${name.replace(/_total$/, "")}`,
      description: help,
      ...(type === "counter"
        ? { sum: { aggregationTemporality: cumulative, isMonotonic: true, dataPoints } }
        : { gauge: { dataPoints } }),
    };
  });
}

function labelled({ label, values }: Exclude<Metric["value"], number>) {
  return Object.entries(values).map(([key, number]) => [{ [label]: key }, number] as const);
}
