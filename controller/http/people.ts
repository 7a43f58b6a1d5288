/** Who sits in front of the page, and what they may decide. */
import type { Approval } from "../approvals/store.ts";

export interface Person {
  /** As it stands in the record: "web page" for who has the address that the agent printed. */
  readonly name: string;
  /** Null: signed in by the local address; that is root's, who may decide everything. */
  readonly identity: { readonly subject: string; readonly issuer: string; readonly groups: readonly string[] } | null;
}

/** A sentence when this person may not decide; null: go on. */
export function refusalToDecide({ identity }: Person, approval: Approval): string | null {
  if (identity === null) return null;
  const asks = approval.identity;
  if (asks !== null && asks.subject === identity.subject && asks.issuer === identity.issuer)
    return "Nobody approves his own: you are who asks.";
  if (approval.approvers.length > 0 && !approval.approvers.some((group) => identity.groups.includes(group)))
    return `Only ${approval.approvers.join(", ")} may decide this.`;
  return null;
}
