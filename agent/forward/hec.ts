/** An HTTP event collector as Splunk has it: one POST with many events, acknowledged by its answer. */
import { Agent, request } from "node:https";
import { hostname } from "node:os";
import { WeirError } from "../errors.ts";
import type { ForwardSink } from "./sink.ts";
import type { ForwardTarget } from "./target.ts";

const answerWithinMs = 30_000;
const answerBytesMax = 64 * 1024;
const shownCharacters = 200;

export function hecSink({ url, ca, token, format }: ForwardTarget): ForwardSink {
  const agent = new Agent({ keepAlive: true, maxSockets: 1, ...(ca === null ? {} : { ca }), minVersion: "TLSv1.2" });
  const host = JSON.stringify(hostname());
  return {
    async send(lines) {
      // The line is JSON already: it becomes the event as it is.
      const events = lines.map(
        ({ entry, line }) =>
          `{"time":${entry.timeMs / 1000},"host":${host},"source":"weir","sourcetype":"weir:${format}","event":${line}}`,
      );
      const { status, body } = await post(url, events.join("\n"), token ?? "", agent);
      if (status === 200) return;
      const said = body.slice(0, shownCharacters).replace(/\s+/g, " ");
      throw new WeirError("WEIR_FORWARD", `${url.host} did not take the events (${status}): ${said}`);
    },
    close: () => agent.destroy(),
  };
}

function post(url: URL, body: string, token: string, agent: Agent): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const failed = (cause: Error): void =>
      reject(new WeirError("WEIR_FORWARD", `${url.host} cannot be reached: ${cause.message}`, { cause }));
    const sent = request(url, {
      agent,
      method: "POST",
      timeout: answerWithinMs,
      headers: { Authorization: `Splunk ${token}`, "Content-Type": "application/json" },
    });
    sent.once("timeout", () => sent.destroy(new Error("no answer in time")));
    sent.once("error", failed);
    sent.once("response", (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (piece: string) => {
        if (text.length < answerBytesMax) text += piece;
      });
      response.once("end", () => resolve({ status: response.statusCode ?? 0, body: text }));
      response.once("error", failed);
    });
    sent.end(body);
  });
}
