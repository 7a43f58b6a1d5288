/**
 * What really leaves a governed namespace: a packet socket on the other end of its veth, where nothing can hide. It looks for
 * a mark of the test's in whole frames, and for first segments of TCP.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

export interface WireTap {
  /** Frames since the last question that carry the word, and TCP segments that open a connection to the port. */
  seen(word: string, port: number): Promise<{ frames: number; opened: number }>;
  stop(): Promise<void>;
}

export async function startWireTap(namespace: string, device: string): Promise<WireTap> {
  const child = spawn("nsenter", [`--net=/run/netns/${namespace}`, "/usr/bin/python3", "-u", "-c", tapCode, device], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout });
  await once(lines, "line");
  return {
    async seen(word, port) {
      child.stdin.write(`${JSON.stringify({ word, port })}\n`);
      const [line] = (await once(lines, "line")) as [string];
      return JSON.parse(line) as { frames: number; opened: number };
    },
    async stop() {
      if (child.exitCode !== null) return;
      const ended = once(child, "exit");
      child.stdin.end();
      await ended;
    },
  };
}

/** Incoming frames only: what the servers here answer does not count. */
const tapCode = `
import socket, sys, json, select, struct
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 23)
s.bind((sys.argv[1], 0))
frames = []
print("ready")
def opening(f, port):
    kind = struct.unpack("!H", f[12:14])[0]
    at = 14 + (f[14] & 15) * 4 if kind == 0x800 and f[23] == 6 else 54 if kind == 0x86dd and f[20] == 6 else 0
    return at > 0 and len(f) >= at + 14 and struct.unpack("!H", f[at+2:at+4])[0] == port and f[at+13] & 0x12 == 2
while True:
    ready, _, _ = select.select([s, sys.stdin], [], [])
    if s in ready:
        f, (_, _, kind, _, _) = s.recvfrom(65536)
        if kind != 4: frames.append(f)
        if len(frames) > 20000: del frames[:10000]
        continue
    line = sys.stdin.readline()
    if not line: break
    # What was sent before the question is in the socket by now, or will be at once.
    while select.select([s], [], [], 0.1)[0]:
        f, (_, _, kind, _, _) = s.recvfrom(65536)
        if kind != 4: frames.append(f)
    q = json.loads(line)
    word = q["word"].encode()
    print(json.dumps({"frames": sum(word in f for f in frames), "opened": sum(opening(f, q["port"]) for f in frames)}))
    frames = []
`;
