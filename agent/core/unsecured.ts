/** A client's connection before its TLS: a stream, or what becomes one where it has to, with every byte that was read. */
export type Unsecured<Stream extends { destroy(): void }> = Stream | { socket(): Stream; destroy(): void };

export function streamOf<Stream extends { destroy(): void }>(client: Unsecured<Stream>): Stream {
  return "socket" in client ? client.socket() : client;
}
