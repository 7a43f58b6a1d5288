/** Takes content codings (RFC 9110 §8.4.1) away from bodies, off the event loop, piece by piece and within limits. */
import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from "node:zlib";

type ZlibStream = ReturnType<typeof createGunzip>;

const decoders: Readonly<Record<string, () => ZlibStream>> = {
  gzip: createGunzip,
  "x-gzip": createGunzip,
  deflate: createInflate,
  br: createBrotliDecompress as () => ZlibStream,
  zstd: createZstdDecompress as () => ZlibStream,
};

export interface BodyDecoder {
  /** False: it takes more than it has worked off; `drained` tells when it may go on. */
  write(bytes: Buffer): boolean;
  end(): void;
  /** Stops and goes on giving decoded bytes: what decodes to a thousand times its size waits in its coded form. */
  pause(): void;
  resume(): void;
  destroy(): void;
}

export interface DecoderEvents {
  data(bytes: Buffer): void;
  end(): void;
  drained(): void;
  failed(problem: string): void;
}

/** null: the coding is not known. */
export function openDecoder(coding: string, events: DecoderEvents): BodyDecoder | null {
  const make = decoders[coding];
  if (make === undefined) return null;
  const decoder = make();
  decoder.on("data", events.data);
  decoder.on("end", events.end);
  decoder.on("drain", events.drained);
  decoder.on("error", () => events.failed(`it is no ${coding}`));
  return {
    write: (bytes) => decoder.write(bytes),
    end: () => void decoder.end(),
    pause: () => void decoder.pause(),
    resume: () => void decoder.resume(),
    destroy: () => void decoder.destroy(),
  };
}

/** A whole body of at most `bytesMax` decoded bytes. `problem` is a few words for the client when there is no body. */
export function inflate(
  coding: string,
  body: Buffer,
  bytesMax: number,
  done: (body: Buffer | null, problem: string) => void,
): void {
  const parts: Buffer[] = [];
  let bytes = 0;
  let over = false;
  const finish = (result: Buffer | null, problem: string): void => {
    if (over) return;
    over = true;
    decoder?.destroy();
    done(result, problem);
  };
  const decoder = openDecoder(coding, {
    data(part) {
      bytes += part.length;
      if (bytes > bytesMax) finish(null, `decoded it is longer than ${bytesMax} bytes`);
      else parts.push(part);
    },
    end: () => finish(Buffer.concat(parts, bytes), ""),
    drained: () => {},
    failed: (problem) => finish(null, problem),
  });
  if (decoder === null) {
    setImmediate(() => finish(null, `the coding ${coding.slice(0, 20).replace(/[^\w, -]/g, "?")} is not known`));
    return;
  }
  decoder.write(body);
  decoder.end();
}
