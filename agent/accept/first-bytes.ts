/** Waits for what a client says first, and gives it back to the socket unread. */

/** A connection on which nothing is said is let go after this. */
const firstBytesMs = 60_000;

/** A socket, or what reads for one. */
export interface Speaker {
  on(name: string, listener: (bytes: Buffer) => void): unknown;
  off(name: string, listener: (bytes: Buffer) => void): unknown;
  pause(): unknown;
  resume(): unknown;
  unshift(bytes: Buffer): void;
}

/**
 * `read` is asked of all bytes so far, and says `more` when it needs more. Rejects when the client leaves before.
 * It is paused when this resolves, and its next reader gets every byte.
 */
export function readFirstBytes<T>(socket: Speaker, read: (bytes: Buffer) => T | "more"): Promise<T> {
  return new Promise((resolve, reject) => {
    let bytes: Buffer = Buffer.alloc(0);
    const stop = (): void => {
      clearTimeout(timer);
      socket.off("data", onData);
      socket.off("close", onClose);
      socket.off("end", onClose);
      socket.pause();
    };
    const onClose = (): void => {
      stop();
      reject(new Error("the client left before it said anything"));
    };
    const onData = (part: Buffer): void => {
      bytes = bytes.length === 0 ? part : Buffer.concat([bytes, part]);
      const said = read(bytes);
      if (said === "more") return;
      stop();
      socket.unshift(bytes);
      resolve(said);
    };
    const timer = setTimeout(() => {
      stop();
      reject(new Error(`nothing was said in ${firstBytesMs / 1000} s`));
    }, firstBytesMs);
    timer.unref();
    socket.on("data", onData);
    socket.on("close", onClose);
    socket.on("end", onClose);
    socket.resume();
  });
}
