/**
 * Tells people that something waits. A message is tried again with growing pauses while the approval is still pending;
 * who cannot be reached holds nothing up, and is said in the log.
 */
import { createHmac } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { createTransport } from "nodemailer";
import { unbracketed } from "../../agent/core/address.ts";
import type { Approval } from "../approvals/store.ts";
import { mail, slackBody, teamsBody, webhookBody } from "./messages.ts";
import type { Channel, NotifySettings } from "./settings.ts";

/** Messages that wait for a try, over all channels; more are dropped with a word in the log. */
const waitingMax = 1_000;
const tryWithinMs = 10_000;
const triesMax = 6;
const firstPauseMs = 1_000;

export interface Notifier {
  changed(approval: Approval): void;
  /** Waits for what is on its way; nothing is tried again. */
  close(): Promise<void>;
}

export interface NotifierOptions extends NotifySettings {
  /** The page's address without its token. */
  readonly page: string;
  readonly log: (level: "info" | "warn", message: string) => void;
  /** Pause before the second try, in milliseconds; each further one is twice as long. */
  readonly pauseMs?: number;
}

export function createNotifier(options: NotifierOptions): Notifier {
  const { channels, log, pauseMs = firstPauseMs } = options;
  const link = `${options.link ?? options.page}/#/approvals`;
  const pending = new Set<string>();
  const onTheWay = new Set<Promise<void>>();
  const closing = new AbortController();

  async function deliver(channel: Channel, approval: Approval): Promise<void> {
    for (let tried = 1; ; tried += 1) {
      try {
        await send(channel, approval, link);
        return;
      } catch (error) {
        const why = `notify: ${channel.kind} did not take ${approval.id}: ${error instanceof Error ? error.message : error}`;
        // What was decided meanwhile needs nobody's look; a webhook that follows decisions gets those anyhow.
        const over = approval.status === "pending" && !pending.has(approval.id);
        if (tried < triesMax && !over)
          await sleep(pauseMs * 2 ** (tried - 1), null, { signal: closing.signal, ref: false }).catch(() => {});
        if (tried === triesMax || over || closing.signal.aborted) return log("warn", `${why}; given up`);
      }
    }
  }

  return {
    changed(approval) {
      if (approval.status === "pending") pending.add(approval.id);
      else pending.delete(approval.id);
      for (const channel of channels) {
        // People are told of what waits; machines follow what became of it, too.
        if (approval.status !== "pending" && channel.kind !== "webhook") continue;
        if (onTheWay.size >= waitingMax) {
          log("warn", `notify: too many messages wait; ${channel.kind} is not told of ${approval.id}`);
          continue;
        }
        const sent = deliver(channel, approval).finally(() => onTheWay.delete(sent));
        onTheWay.add(sent);
      }
    },
    async close() {
      closing.abort();
      await Promise.all(onTheWay);
    },
  };
}

async function send(channel: Channel, approval: Approval, link: string): Promise<void> {
  switch (channel.kind) {
    case "webhook": {
      const body = JSON.stringify(webhookBody(approval, link));
      return post(channel.url, body, signed(`${approval.id}.${approval.status}`, body, channel.secret));
    }
    case "slack":
      return post(channel.url, JSON.stringify(slackBody(approval, link)), {});
    case "teams":
      return post(channel.url, JSON.stringify(teamsBody(approval, link)), {});
    case "email":
      return sendMail(channel, approval, link);
  }
}

/** Standard Webhooks 1.0: HMAC-SHA256 over id, time and body, so that an old message cannot be played again. */
function signed(id: string, body: string, secret: string): Record<string, string> {
  const seconds = Math.floor(Date.now() / 1000);
  const key = secret.startsWith("whsec_") ? Buffer.from(secret.slice("whsec_".length), "base64") : secret;
  const signature = createHmac("sha256", key).update(`${id}.${seconds}.${body}`).digest("base64");
  return { "webhook-id": id, "webhook-timestamp": String(seconds), "webhook-signature": `v1,${signature}` };
}

async function post(url: string, body: string, headers: Record<string, string>): Promise<void> {
  const response = await fetch(url, {
    method: "POST",
    body,
    headers: { "Content-Type": "application/json", "User-Agent": "weir", ...headers },
    redirect: "error",
    signal: AbortSignal.timeout(tryWithinMs),
  });
  await response.body?.cancel();
  if (!response.ok) throw new Error(`status ${response.status}`);
}

async function sendMail(channel: Extract<Channel, { kind: "email" }>, approval: Approval, link: string): Promise<void> {
  const url = new URL(channel.smtp);
  const transport = createTransport({
    host: unbracketed(url.hostname),
    port: Number(url.port) || (url.protocol === "smtps:" ? 465 : 587),
    secure: url.protocol === "smtps:",
    requireTLS: url.protocol === "smtp+starttls:",
    ...(url.username === ""
      ? {}
      : { auth: { user: decodeURIComponent(url.username), pass: decodeURIComponent(url.password) } }),
    ...{ connectionTimeout: tryWithinMs, greetingTimeout: tryWithinMs, socketTimeout: tryWithinMs },
  });
  try {
    await transport.sendMail({ from: channel.from, to: [...channel.to], ...mail(approval, link) });
  } finally {
    transport.close();
  }
}
