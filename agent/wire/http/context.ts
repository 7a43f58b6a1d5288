/** Facts of one connection that its requests are judged by; all of them are inputs. */
import type { Verdict } from "../../core/verdict.ts";
import type { HttpCredential } from "./credential.ts";
import type { DialectContext, ReplyReader } from "./dialect.ts";
import type { RequestHead } from "./message.ts";
import type { Destination } from "./request-facts.ts";

export interface HttpContext extends DialectContext {
  readonly destination: Destination;
  /** Of the client's leg; the server's is the same. */
  readonly scheme: "http" | "https";
  /** What goes upstream in place of the client's own; null: the client's own is passed on. */
  readonly credential: HttpCredential | null;
  /** Held requests by the name that their dialect gives them: one request may give up another of the same client. */
  readonly named: {
    /** Returns what forgets the name. */
    held(name: string, giveUp: () => void): () => void;
    giveUp(name: string): void;
  };
  /** After a 101: reads and changes what the server sends. null: it cannot be read, and may not pass under masks. */
  tunnel(head: RequestHead, verdict: Verdict): ReplyReader | null;
}
