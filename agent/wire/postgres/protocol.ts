/** PostgreSQL's frontend/backend protocol 3.0 and 3.2 as a Protocol. See README.md. */
import type { Protocol } from "../protocol.ts";
import { PostgresConversation } from "./conversation.ts";
import { prepareDescriber } from "./describe/index.ts";
import { heldBytesMax } from "./limits.ts";
import { sniffPostgres } from "./sniff.ts";

export const postgresProtocol: Protocol = {
  name: "postgres",
  heldBytesMax,
  sniff: sniffPostgres,
  prepare: prepareDescriber,
  open: (context) => new PostgresConversation(context),
};
