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

/** Slack takes no message with a longer text in a section; the parts of ours are shorter together. */
const slackCharactersMax = { title: 300, where: 700, risks: 700, statement: 1_200 };

/** Slack's mrkdwn: `&`, `<` and `>` are its control characters, and a fence would end the block. */
export function slackBody(approval: Approval, link: string): object {
  const safe = (text: string): string =>
    text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll("`", "\u02cb");
  // As it is sent it may be five times as long: cut until it fits, never in the middle of an entity.
  const fit = (text: string, charactersMax: number): string => {
    let cut = text;
    while (safe(cut).length > charactersMax) cut = `${cut.slice(0, Math.floor(cut.length * 0.8))}…`;
    return safe(cut.toWellFormed());
  };
  const name = fit(title(approval), slackCharactersMax.title);
  const risks = fit(approval.risks.map((risk) => `\n• ${visible(risk)}`).join(""), slackCharactersMax.risks);
  const told = `*${name}*\n${fit(where(approval), slackCharactersMax.where)}${risks}`;
  const text = `${told}\n\`\`\`${fit(statement(approval), slackCharactersMax.statement)}\`\`\``;
  return {
    text: name,
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
