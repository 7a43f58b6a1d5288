/** What a message says, in each receiver's own markup: a statement can be written so that it looks like a link. */
import type { Approval } from "../approvals/store.ts";

const textCharactersMax = 1_000;

/** Characters that turn text around, hide it or end a line are shown as their code. */
export function visible(text: string): string {
  return text.replace(/(?!\n)[\p{Cc}\p{Cf}\u2028\u2029]/gu, (c) => `\\u{${(c.codePointAt(0) as number).toString(16)}}`);
}

export function title(approval: Approval): string {
  const who = approval.identity?.subject ?? (approval.user === "" ? approval.process : approval.user);
  return visible(`${who} waits for approval on ${approval.target}`).replaceAll("\n", " ");
}

function where({ process, host, job, rule, reason }: Approval): string {
  return visible(`by ${process} on ${host}${job === null ? "" : ` (${job})`}; rule ${rule}: ${reason}`);
}

function statement({ text }: Approval): string {
  const cut = text.length > textCharactersMax ? `${text.slice(0, textCharactersMax)} …` : text;
  return visible(cut);
}

/** The approval as the page shows it. `type` names the event: `approval.pending`, `approval.approved`, … */
export function webhookBody(approval: Approval, link: string): object {
  const { cgroup: _, digest: __, ...shown } = approval;
  return { type: `approval.${approval.status}`, link, approval: shown };
}

/** Slack's mrkdwn: `&`, `<` and `>` are its control characters, and a fence would end the block. */
export function slackBody(approval: Approval, link: string): object {
  const safe = (text: string): string =>
    text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll("`", "\u02cb");
  const risks = approval.risks.map((risk) => `\n• ${safe(visible(risk))}`).join("");
  const text = `*${safe(title(approval))}*\n${safe(where(approval))}${risks}\n\`\`\`${safe(statement(approval))}\`\`\``;
  return {
    text: safe(title(approval)),
    blocks: [
      { type: "section", text: { type: "mrkdwn", text } },
      { type: "section", text: { type: "mrkdwn", text: `<${link}|Look, then approve or deny>` } },
    ],
  };
}

/** An Adaptive Card 1.4. Its text knows a part of Markdown, which is escaped. */
export function teamsBody(approval: Approval, link: string): object {
  const safe = (text: string): string => text.replace(/[\\`*_[\]()#+\-.!<>|~]/g, "\\$&");
  const block = (text: string, more: object = {}): object => ({
    type: "TextBlock",
    wrap: true,
    text: safe(text),
    ...more,
  });
  const card = {
    $schema: "http://adaptivecards.io/schemas/adaptive-card.json",
    type: "AdaptiveCard",
    version: "1.4",
    body: [
      block(title(approval), { weight: "Bolder", size: "Medium" }),
      block(where(approval), { isSubtle: true }),
      ...approval.risks.map((risk) => block(visible(risk), { color: "Attention" })),
      block(statement(approval), { fontType: "Monospace" }),
    ],
    actions: [{ type: "Action.OpenUrl", title: "Look, then approve or deny", url: link }],
  };
  return {
    type: "message",
    attachments: [{ contentType: "application/vnd.microsoft.card.adaptive", content: card }],
  };
}

export function mail(approval: Approval, link: string): { readonly subject: string; readonly text: string } {
  const risks = approval.risks.map((risk) => `! ${visible(risk)}\n`).join("");
  return {
    subject: `Weir: ${title(approval)}`,
    text: `${title(approval)}\n${where(approval)}\n${risks}\n${statement(approval)}\n\nLook, then approve or deny: ${link}\n`,
  };
}
