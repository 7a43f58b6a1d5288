/** Every limit of the PostgreSQL protocol folder, in one place, each with its unit. */

/** Startup packets: the server's own limit (MAX_STARTUP_PACKET_LENGTH). */
export const startupBytesMax = 10_000;
/** A password or SASL message: the server's own limit (PG_MAX_AUTH_TOKEN_LENGTH). */
export const authenticationBytesMax = 65_535;
/** A Query, Parse or Bind that has to be read whole before it can be decided; a longer one is refused. */
export const statementBytesMax = 16 * 1024 * 1024;
/** A server message that has to be read whole (RowDescription, errors, …). */
export const serverMessageBytesMax = 4 * 1024 * 1024;
/** While a decision is awaited, so much of what the client sends on is kept before the client is paused. */
export const queuedBytesMax = 256 * 1024;
/** A chunk that an edge had read already when the pause reached it; sockets read at most 64 KiB at once, TLS as well. */
const chunkBytesMax = 1024 * 1024;
/** Bytes that one conversation may hold back in all. */
export const heldBytesMax =
  statementBytesMax + serverMessageBytesMax + queuedBytesMax + authenticationBytesMax + 4 * chunkBytesMax;

export const preparedStatementsMax = 10_000;
export const portalsMax = 10_000;
/** Messages sent ahead of their answers; a client that goes on is paused, never refused. */
export const pipelineMessagesMax = 10_000;

/** What a record keeps of a statement's text, and of one parameter. */
export const operationTextBytesMax = 64 * 1024;
export const parameterBytesMax = 1024;
export const parametersMax = 1_000;
/** Rows of one result that `record: result` keeps. */
export const recordedRowsBytesMax = 64 * 1024;
export const recordedRowsMax = 100;
/** Columns of tables are asked again after this time, so that a rename is noticed. */
export const catalogEntryMs = 30_000;
export const catalogTablesMax = 1_000;
/** The rest of a result that was cut off is read and dropped up to here; then the server is asked to cancel it. */
export const drainedBytesMax = 4 * 1024 * 1024;
