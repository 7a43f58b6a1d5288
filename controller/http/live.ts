/** Open pages are told at once what changed (HTML living standard §9.2, server-sent events). */
import type { ServerResponse } from "node:http";
import type { FastifyInstance } from "fastify";

const streamsMax = 32;
/** A page that does not read is closed; it asks again. */
const streamBytesMax = 1024 * 1024;
/** Comments keep proxies from closing a quiet stream. */
const beatMs = 20_000;

export interface Live {
  send(event: "approval" | "session", value: unknown): void;
  close(): void;
}

export function liveRoute(app: FastifyInstance): Live {
  const streams = new Set<ServerResponse>();
  const beat = setInterval(() => {
    for (const stream of streams) stream.write(": .\n\n");
  }, beatMs);
  beat.unref();

  app.get("/api/events", (_request, reply) => {
    if (streams.size >= streamsMax) {
      void reply.code(503).send({ error: "too many open pages" });
      return;
    }
    // The hooks' headers are set on the reply; from here on the stream is ours.
    reply.hijack();
    const stream = reply.raw;
    for (const [name, value] of Object.entries(reply.getHeaders()))
      if (value !== undefined) stream.setHeader(name, value);
    stream.writeHead(200, { "Content-Type": "text/event-stream" });
    stream.write(": open\n\n");
    streams.add(stream);
    stream.on("close", () => streams.delete(stream));
  });

  return {
    send(event, value) {
      for (const stream of streams) {
        if (stream.writableLength > streamBytesMax) stream.destroy();
        else stream.write(`event: ${event}\ndata: ${JSON.stringify(value)}\n\n`);
      }
    },
    close() {
      clearInterval(beat);
      for (const stream of streams) stream.destroy();
    },
  };
}
