/**
 * OTLP in its JSON form (opentelemetry-proto 1.x, "JSON Protobuf Encoding"): names in camel case, enums as numbers,
 * 64-bit numbers as texts, ids in hex. Only what Weir writes of it.
 */

export type AttributeValue = string | number | boolean | readonly string[] | null | undefined;

interface AnyValue {
  readonly stringValue?: string;
  readonly intValue?: string;
  readonly doubleValue?: number;
  readonly boolValue?: boolean;
  readonly arrayValue?: { readonly values: readonly AnyValue[] };
}

export interface KeyValue {
  readonly key: string;
  readonly value: AnyValue;
}

export interface Span {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly flags?: number;
  readonly name: string;
  /** 3: CLIENT. */
  readonly kind: 3;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly KeyValue[];
  readonly events: readonly { readonly timeUnixNano: string; readonly name: string; readonly attributes: KeyValue[] }[];
  /** 0: unset, 2: error. */
  readonly status: { readonly code: 0 | 2 };
}

/** Of one text; a longer one is cut. Prometheus, Jaeger and Tempo take as much. */
const textCharactersMax = 256;
const listMax = 32;

/** What is null, undefined or empty is left out. */
export function attributes(all: Readonly<Record<string, AttributeValue>>): KeyValue[] {
  const pairs: KeyValue[] = [];
  for (const [key, value] of Object.entries(all)) {
    if (value === null || value === undefined || value === "") continue;
    if (Array.isArray(value) && value.length === 0) continue;
    pairs.push({ key, value: anyValue(value as string | number | boolean | readonly string[]) });
  }
  return pairs;
}

function anyValue(value: string | number | boolean | readonly string[]): AnyValue {
  if (typeof value === "string") return { stringValue: shortText(value) };
  if (typeof value === "boolean") return { boolValue: value };
  if (typeof value === "number")
    return Number.isSafeInteger(value) ? { intValue: String(value) } : { doubleValue: value };
  return { arrayValue: { values: value.slice(0, listMax).map((one) => ({ stringValue: shortText(one) })) } };
}

/** Lone surrogates are no UTF-8, and receivers refuse the whole batch for one. */
export function shortText(text: string): string {
  return (text.length > textCharactersMax ? `${text.slice(0, textCharactersMax)}…` : text).toWellFormed();
}

export function nanos(ms: number): string {
  return `${BigInt(Math.round(ms * 1000)) * 1000n}`;
}

/** What everything of this process has in common; `scope` names who made it. */
export interface Envelope {
  readonly resource: { readonly attributes: readonly KeyValue[] };
  readonly scope: { readonly name: string; readonly version: string };
}

/** ExportTraceServiceRequest, from spans that are texts already. */
export function traceRequest({ resource, scope }: Envelope, spans: readonly string[]): string {
  return `{"resourceSpans":[{"resource":${JSON.stringify(resource)},"scopeSpans":[{"scope":${JSON.stringify(scope)},"spans":[${spans.join(",")}]}]}]}`;
}

/** ExportMetricsServiceRequest. */
export function metricsRequest({ resource, scope }: Envelope, metrics: readonly object[]): string {
  return JSON.stringify({ resourceMetrics: [{ resource, scopeMetrics: [{ scope, metrics }] }] });
}
