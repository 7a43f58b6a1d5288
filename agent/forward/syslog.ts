/**
 * Syslog: messages of RFC 5424, framed by their length over TLS (RFC 5425). The protocol has no acknowledgement: what was
 * written into a connection that broke may be lost, so the last lines before the break are sent again.
 */
import { hostname } from "node:os";
import { connect, type TLSSocket } from "node:tls";
import { unbracketed } from "../core/address.ts";
import { WeirError } from "../errors.ts";
import type { ReadEntry } from "../record/read.ts";
import type { ForwardSink } from "./sink.ts";
import type { ForwardTarget } from "./target.ts";

const defaultPort = 6514;
const connectWithinMs = 10_000;
/** A receiver that takes nothing for that long is left. */
const drainWithinMs = 30_000;
/** Kept, to be sent again after a break. */
export const resentBytesMax = 256 * 1024;
/** RFC 5425 §4.3.1: receivers should take 8192; an entry's text may be longer, and most take more. */
export const messageBytesMax = 1024 * 1024;

/** RFC 5424 §6.2.1: local use 0; the severities that entries have. */
const facility = 16;
const severities = { warning: 4, notice: 5, informational: 6 } as const;

export function syslogSink({ url, ca }: Pick<ForwardTarget, "url" | "ca">): ForwardSink {
  let socket: TLSSocket | null = null;
  let kept: Buffer[] = [];
  let keptBytes = 0;

  async function connected(): Promise<TLSSocket> {
    if (socket !== null && !socket.destroyed && socket.writable) return socket;
    socket = await dial(url, ca);
    for (const message of kept) await write(socket, message);
    return socket;
  }

  return {
    async send(lines) {
      const open = await connected();
      for (const { entry, line } of lines) {
        const message = framed(syslogMessage(entry, line));
        await write(open, message);
        kept.push(message);
        keptBytes += message.length;
      }
      // The sum is that of `kept` at all times: what is dropped is counted off.
      while (keptBytes > resentBytesMax && kept.length > 1) keptBytes -= (kept.shift() as Buffer).length;
      if (open.destroyed) throw new WeirError("WEIR_FORWARD", `${url.host} closed the connection.`);
    },
    close() {
      kept = [];
      socket?.end();
      socket?.destroySoon();
    },
  };
}

/** RFC 5424 §6: `<PRI>1 TIME HOST APP PROCID MSGID [SD] MSG`, without its framing. */
export function syslogMessage(entry: ReadEntry, line: string): Buffer {
  const { agent, agentSeq, session, type, timeMs } = entry;
  const priority = facility * 8 + severities[severityOf(entry)];
  const time = new Date(timeMs).toISOString();
  // 32473 is the number that RFC 5612 keeps for examples: Weir has none of its own.
  const data = `[weir@32473 agent="${parameter(agent)}" seq="${agentSeq}" session="${parameter(session)}"]`;
  const head = `<${priority}>1 ${time} ${name(hostname(), 255)} weir ${name(String(agentSeq), 128)} ${name(type, 32)} ${data} `;
  // §6.4: a byte order mark says that the message is UTF-8.
  return Buffer.concat([Buffer.from(head), Buffer.from([0xef, 0xbb, 0xbf]), Buffer.from(line)]).subarray(
    0,
    messageBytesMax,
  );
}

function severityOf({ type, fields }: ReadEntry): keyof typeof severities {
  if (type === "Refused" || fields["action"] === "deny") return "warning";
  return type === "Approval" || fields["action"] === "hold" ? "notice" : "informational";
}

/** Printable ASCII without spaces; `-` for nothing. */
function name(text: string, max: number): string {
  return text.replace(/[^\x21-\x7e]/g, "_").slice(0, max) || "-";
}

/** §6.3.3: quote, backslash and bracket are escaped. */
function parameter(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}]/gu, "_").replace(/["\\\]]/g, "\\$&");
}

function framed(message: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${message.length} `), message]);
}

function dial(url: URL, ca: string | null): Promise<TLSSocket> {
  const host = unbracketed(url.hostname);
  const port = url.port === "" ? defaultPort : Number(url.port);
  return new Promise((resolve, reject) => {
    const socket = connect({
      host,
      port,
      ...(/[a-z]/i.test(host) && !host.includes(":") ? { servername: host } : {}),
      ...(ca === null ? {} : { ca }),
      minVersion: "TLSv1.2",
    });
    const late = setTimeout(() => socket.destroy(new Error("no answer in time")), connectWithinMs);
    socket.once("secureConnect", () => {
      clearTimeout(late);
      socket.on("error", () => {});
      // Receivers say nothing; what they send all the same must not fill memory.
      socket.resume();
      resolve(socket);
    });
    socket.once("error", (cause) => {
      clearTimeout(late);
      reject(new WeirError("WEIR_FORWARD", `${url.host} cannot be reached: ${cause.message}`, { cause }));
    });
  });
}

function write(socket: TLSSocket, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const broken = (): void =>
      reject(new WeirError("WEIR_FORWARD", "The receiver closed the connection, or takes nothing."));
    if (socket.destroyed) return broken();
    const late = setTimeout(() => socket.destroy(), drainWithinMs);
    socket.once("close", broken);
    socket.write(bytes, (error) => {
      clearTimeout(late);
      socket.off("close", broken);
      if (error) broken();
      else resolve();
    });
  });
}
