/** Open pages are told at once what changed (HTML living standard §9.2, server-sent events). */
import type { ServerResponse } from "node:http";
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { Person } from "./people.ts";

const streamsMax = 32;
/** A page that does not read is closed; it asks again. */
const streamBytesMax = 1024 * 1024;
/** Comments keep proxies from closing a quiet stream. */
const beatMs = 5_000;

export interface Live {
  send(event: "approval" | "session", value: unknown): void;
  close(): void;
}

export function liveRoute(app: FastifyInstance, personOf: (request: FastifyRequest) => Promise<Person | null>): Live {
  const streams = new Map<ServerResponse, FastifyRequest>();
  const beat = setInterval(() => {
    for (const [stream, request] of streams) {
      // Who was signed out meanwhile hears no more.
      personOf(request).then(
        (person) => {
          if (person === null) stream.destroy();
          else if (streams.has(stream)) stream.write(": .\n\n");
        },
        () => stream.destroy(),
      );
    }
  }, beatMs);
  beat.unref();

  app.get("/api/events", (request, reply) => {
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
    streams.set(stream, request);
    stream.on("close", () => streams.delete(stream));
  });

  return {
    send(event, value) {
      for (const stream of streams.keys()) {
        if (stream.writableLength > streamBytesMax) stream.destroy();
        else stream.write(`event: ${event}\ndata: ${JSON.stringify(value)}\n\n`);
      }
    },
    close() {
      clearInterval(beat);
      for (const stream of streams.keys()) stream.destroy();
    },
  };
}
