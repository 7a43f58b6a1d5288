/**
 * Amazon Nova Sonic as far as the tests need it, which the mock of providers does not have: each text is answered, three
 * letters an event, in the frames and events of Bedrock's bidirectional stream.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { writeEvent } from "../../agent/wire/llm/bedrock-frames.ts";
import { EventStreamReader } from "../../agent/wire/llm/eventstream.ts";

interface SonicEvent {
  readonly event: {
    readonly textInput?: { readonly promptName: string; readonly content: string };
    readonly sessionEnd?: object;
  };
}

export function answerSonic(
  request: IncomingMessage,
  response: ServerResponse,
  answerTo: (prompt: string) => string,
): void {
  response.writeHead(200, { "content-type": "application/vnd.amazon.eventstream" });
  const say = (event: object): void => {
    response.write(writeEvent("chunk", { bytes: Buffer.from(JSON.stringify({ event })).toString("base64") }));
  };
  const reader = new EventStreamReader();
  let contents = 0;
  request.on("data", (bytes: Buffer) => {
    for (const signed of reader.push(bytes)) {
      if (signed.payload.length === 0) continue;
      const [frame] = new EventStreamReader().push(signed.payload);
      const { bytes: inner } = JSON.parse(String(frame?.payload)) as { bytes: string };
      const { event } = JSON.parse(Buffer.from(inner, "base64").toString()) as SonicEvent;
      if (event.textInput !== undefined) {
        const { promptName, content } = event.textInput;
        contents += 1;
        const contentId = `answer-${contents}`;
        for (const piece of answerTo(content).match(/.{1,3}/gsu) ?? [])
          say({ textOutput: { promptName, contentId, role: "ASSISTANT", content: piece } });
        say({ contentEnd: { promptName, contentId, stopReason: "END_TURN" } });
      }
      if (event.sessionEnd !== undefined) {
        say({ usageEvent: { totalInputTokens: 11, totalOutputTokens: 7 } });
        response.end();
      }
    }
  });
}
