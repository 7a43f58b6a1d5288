/**
 * The server's messages after the login: each is matched with the entry that awaits it. Rows that nobody changes are
 * only counted by their headers and leave as they came.
 */
import type { Decision } from "../../core/verdict.ts";
import { PeerError } from "../../errors.ts";
import {
  backend,
  message,
  readCopyResponse,
  readErrorFields,
  readParameterStatus,
  readTag,
} from "./backend-messages.ts";
import { type Entry, entry } from "./expected.ts";
import { type Fate, type FrameReader, Framer, headerBytes, type PartialFate, pass, stop, take } from "./framer.ts";
import type { Frontend } from "./frontend.ts";
import { frontend } from "./frontend-messages.ts";
import { drainedBytesMax, serverMessageBytesMax } from "./limits.ts";
import { deniedResponse, deniedText, heldNotice, maskDeniedResponse, withdrawnResponse } from "./refusal.ts";
import { needsFields, Results } from "./results.ts";
import { nextLimit, type Run } from "./run.ts";
import { idle, type SessionState } from "./state.ts";

const copyFail = message(frontend.copyFail, Buffer.from("denied by policy\0"));
const syncMessage = message(frontend.sync, Buffer.alloc(0));
const stringBytesMax = 200;

export class Backend implements FrameReader {
  readonly framer = new Framer(this);
  readonly results: Results;
  readonly #state: SessionState;
  readonly #frontend: Frontend;
  /** Its rows are counted by the framer. */
  #counting: Run | null = null;
  /** Bytes dropped of a result that was cut off; the server is asked to cancel once they are many. */
  #droppedBytes = 0;
  #cancelled = false;
  /** Waits for a decision about more rows. */
  limited: Run | null = null;

  constructor(state: SessionState, client: Frontend) {
    this.#state = state;
    this.#frontend = client;
    this.results = new Results(state);
  }

  get heldBytes(): number {
    return this.framer.heldBytes + this.results.heldBytes;
  }

  /** The framer passes on or the masker holds a message that is not complete. */
  get atBorder(): boolean {
    return this.framer.atBorder && !this.results.streaming;
  }

  untouched(bytes: Buffer): void {
    this.#state.sendClient(bytes);
  }

  frame(type: number, bytes: Buffer, start: number, end: number): Fate {
    const state = this.#state;
    switch (type) {
      case backend.dataRow:
      case backend.copyData:
        return this.#row(type, bytes, start, end);
      case backend.bindComplete:
        return this.#complete("bind");
      case backend.parseComplete:
        return this.#complete("parse");
      case backend.closeComplete:
        return this.#complete("close");
      case backend.commandComplete:
      case backend.emptyQuery:
        return this.#commandComplete(type === backend.emptyQuery ? "" : readTag(bytes, start, end));
      case backend.portalSuspended:
        return this.#commandComplete("suspended");
      case backend.ready:
        return this.#ready(bytes[start + headerBytes] ?? idle, end - start);
      case backend.rowDescription:
        return this.#rowDescription(bytes, start, end);
      case backend.noData: {
        const head = this.#need("describe");
        this.#shift();
        return this.#reply(head);
      }
      case backend.parameterDescription:
        return this.#reply(this.#need("describe"));
      case backend.error:
        return this.#error(bytes, start, end);
      case backend.notice:
      case backend.notification: {
        const masked = this.results.maskAsync(type, bytes, start, end, state.expected.head?.run ?? null);
        return masked === null ? pass : this.#instead(masked);
      }
      case backend.parameterStatus:
        return this.#parameterStatus(bytes, start, end);
      case backend.keyData:
        state.cancelKey = Buffer.from(bytes.subarray(start + headerBytes, end));
        state.out.push({ type: "cancel-key", key: state.cancelKey });
        return pass;
      case backend.copyIn:
        return this.#copyIn();
      case backend.copyOut:
        return this.#copyOut(bytes, start, end);
      case backend.copyBoth:
        return this.#copyBoth();
      case backend.copyDone: {
        this.#harvest();
        this.framer.countedType = 0;
        const rest = this.results.copyEnd();
        if (this.#state.dropping) return take;
        if (rest !== null && rest.length > 0) {
          this.framer.flush();
          state.sendClient(rest);
        }
        return pass;
      }
      case backend.functionResult: {
        const head = this.#need("call");
        if (head.run !== null) head.run.tag = "CALL";
        const masked = this.results.functionResult(head, bytes, start, end);
        if (masked === "denied") return this.#cut(head.run, this.results.denial);
        return masked === null ? pass : this.#instead(masked);
      }
      default:
        throw new PeerError("WEIR_STATE_INVALID", `the server sent an unexpected message of the type ${type}`);
    }
  }

  begin(type: number, length: number): PartialFate | typeof stop {
    if (type === backend.dataRow || type === backend.copyData) {
      if (this.#state.dropping) {
        this.#dropped(length);
        return "drop";
      }
      const fate = this.#firstRow(type, length);
      if (fate === "look") return this.#lookAt(length);
      return fate === "stop" ? stop : fate;
    }
    return this.#collectable(length);
  }

  /** A row that is looked into is collected, or masked as it goes by when it is too long for that. */
  #lookAt(length: number): PartialFate {
    if (length <= serverMessageBytesMax) return "collect";
    const run = this.#rowRun();
    if (!this.results.streamBegin(run)) {
      this.#cutRun(run, maskDeniedResponse(`a row of ${length} bytes`));
      return "drop";
    }
    run.rows += 1;
    run.bytes += length;
    return "stream";
  }

  part(bytes: Buffer, last: boolean): void {
    const masked = this.results.streamPart(bytes, last);
    if (masked.length > 0) this.#state.sendClient(masked);
  }

  #collectable(length: number): PartialFate {
    if (length > serverMessageBytesMax)
      throw new PeerError(
        "WEIR_FRAME_TOO_LARGE",
        `a server message of ${length} bytes is above ${serverMessageBytesMax}`,
      );
    return "collect";
  }

  /** The decision about more rows than a limit lets through. */
  decided(decision: Decision, approvalId: string | null, by: string): void {
    const run = this.limited;
    const state = this.#state;
    if (run === null) return;
    if (decision.action === "hold") {
      state.notices.push(heldNotice(approvalId ?? "", decision.verdict));
      return;
    }
    this.limited = null;
    if (decision.action === "allow")
      run.rowsMax = nextLimit(run.verdict?.transforms.limits ?? [], run.rowsMax)?.rows ?? Number.POSITIVE_INFINITY;
    else
      this.#cutOff(
        run,
        deniedResponse(decision.verdict, "ERROR", approvalId !== null, by),
        deniedText(decision.verdict),
      );
    state.out.push({ type: "resume", side: "server" });
    state.wakeBackend = true;
  }

  cancelled(reason: string): void {
    const run = this.limited;
    if (run === null) return;
    this.limited = null;
    this.#state.out.push({ type: "withdraw", askId: run.askId, reason }, { type: "resume", side: "server" });
    this.#cutOff(run, withdrawnResponse(), { code: "57014", message: "withdrawn" });
    this.#state.wakeBackend = true;
  }

  wake(): void {
    if (this.limited === null && !this.results.waiting && this.framer.stopped) this.framer.go();
  }

  /** Rows counted by the framer belong to the run. */
  #harvest(): void {
    const run = this.#counting;
    if (run === null) return;
    run.rows += this.framer.counted;
    run.bytes += this.framer.countedBytes;
    this.framer.counted = 0;
    this.framer.countedBytes = 0;
  }

  #stopCounting(): void {
    if (this.#counting === null) return;
    this.#harvest();
    this.framer.countedType = 0;
    this.#counting = null;
  }

  #row(type: number, bytes: Buffer, start: number, end: number): Fate {
    if (this.#state.dropping) {
      this.#dropped(end - start);
      return take;
    }
    const fate = this.#firstRow(type, end - start);
    if (fate === "pass") return pass;
    if (fate === "stop") return stop;
    if (fate === "drop") return take;
    const run = this.#rowRun();
    const masked = this.results.row(type, run, bytes, start, end);
    run.rows += 1;
    run.bytes += end - start;
    if (masked === null) return pass;
    if (masked === "denied") return this.#cutRun(run, this.results.denial);
    return this.#instead(masked);
  }

  /** What becomes of a row: it passes (and its followers are counted), waits, is dropped, or has to be looked into. */
  #firstRow(type: number, length: number): "pass" | "stop" | "drop" | "look" {
    this.#harvest();
    const run = this.#rowRun();
    if (run.rows >= run.rowsMax) return this.#limit(run);
    const plan = this.results.plan(run, type, this.#state.expected.head as Entry);
    if (plan === "wait") return "stop";
    if (plan === "deny") {
      this.#cutRun(run, this.results.denial);
      return "drop";
    }
    if (plan === "look") return "look";
    run.rows += 1;
    run.bytes += length;
    this.#counting = run;
    this.framer.countedType = type;
    this.framer.countedMax = run.rowsMax - run.rows;
    return "pass";
  }

  #rowRun(): Run {
    const head = this.#state.expected.head;
    if (head?.run == null || (head.awaited !== "query" && head.awaited !== "execute"))
      throw new PeerError("WEIR_STATE_INVALID", "the server sent a row that no statement asked for");
    return head.run;
  }

  #limit(run: Run): "stop" | "drop" {
    const state = this.#state;
    const verdict = run.verdict;
    const limit = verdict?.transforms.limits.find(({ rows }) => rows === run.rowsMax);
    if (verdict === null || limit === undefined) throw new PeerError("WEIR_STATE_INVALID", "a limit without a rule");
    this.#stopCounting();
    if (limit.then === "deny") {
      const refusing = { ...verdict, rule: limit.rule, reason: limitReason(limit.reason, limit.rows) };
      this.#cutRun(run, deniedResponse(refusing, "ERROR", false), deniedText(refusing));
      return "drop";
    }
    this.limited = run;
    state.out.push({ type: "pause", side: "server" });
    state.out.push({
      type: "ask",
      askId: run.askId,
      operation: run.operation,
      limit: { rule: limit.rule, rows: limit.rows, reason: limitReason(limit.reason, limit.rows) },
    });
    return "stop";
  }

  /** Called between messages: the error takes the place of everything up to ReadyForQuery. */
  #cutOff(run: Run, response: Buffer, error: { code: string; message: string }): void {
    const state = this.#state;
    this.#stopCounting();
    this.framer.flush();
    state.sendClient(response);
    run.error = error;
    state.dropping = true;
    this.#droppedBytes = 0;
    this.#cancelled = false;
    const { expected } = state;
    if (expected.head?.awaited !== "execute") return;
    for (const one of expected.all()) if (one.awaited === "sync") return;
    this.#frontend.failBatch();
  }

  /** A cancel for a short rest would come too late, and hit the next statement of the client. */
  #dropped(bytes: number): void {
    const state = this.#state;
    this.#droppedBytes += bytes;
    if (this.#cancelled || this.#droppedBytes < drainedBytesMax || state.cancelKey === null) return;
    this.#cancelled = true;
    state.out.push({ type: "cancel-server", key: state.cancelKey });
  }

  #cutRun(run: Run, response: Buffer, error = { code: "42501", message: "the result cannot be masked" }): Fate {
    this.#cutOff(run, response, error);
    return take;
  }

  #cut(run: Run | null, response: Buffer): Fate {
    if (run === null) return take;
    return this.#cutRun(run, response);
  }

  #need(awaited: Entry["awaited"]): Entry {
    const head = this.#state.expected.head;
    if (head?.awaited !== awaited)
      throw new PeerError(
        "WEIR_STATE_INVALID",
        `the server answered ${awaited} where ${head?.awaited ?? "nothing"} is due`,
      );
    return head;
  }

  /** The head is answered. Who waits for everything to be answered is looked at, also where no ReadyForQuery is due. */
  #shift(): void {
    const state = this.#state;
    state.expected.shift();
    if (state.expected.length === 0) state.wakeFrontend = true;
  }

  #reply(head: Entry): Fate {
    return head.ours || this.#state.dropping ? take : pass;
  }

  #instead(bytes: Buffer): Fate {
    this.framer.flush();
    this.#state.sendClient(bytes);
    return take;
  }

  #complete(awaited: "parse" | "bind" | "close"): Fate {
    const { names } = this.#state;
    const head = this.#need(awaited);
    if (head.response !== null) throw new PeerError("WEIR_STATE_INVALID", "the server parsed what cannot be parsed");
    this.#shift();
    if (head.prepared !== null) names.statements.confirm(head.prepared.name, head.prepared);
    else if (head.portal !== null) names.portals.confirm(head.portal.name, head.portal);
    return this.#reply(head);
  }

  #rowDescription(bytes: Buffer, start: number, end: number): Fate {
    const state = this.#state;
    const head = state.expected.head;
    if (head?.awaited === "query") {
      this.#stopCounting();
      if (head.run !== null && needsFields(head.run)) this.results.describe(head.run, bytes, start, end);
    } else if (head?.awaited === "describe") {
      const description = Buffer.from(bytes.subarray(start, end));
      if (head.prepared !== null) head.prepared.description = description;
      if (head.portal !== null) head.portal.description = description;
      if (head.run !== null) head.run.description = description;
      this.#shift();
    } else throw new PeerError("WEIR_STATE_INVALID", "the server described rows that nobody asked for");
    return this.#reply(head);
  }

  #commandComplete(tag: string): Fate {
    const state = this.#state;
    this.#stopCounting();
    const head = state.expected.head;
    if (head?.awaited === "query") {
      if (head.response !== null) throw new PeerError("WEIR_STATE_INVALID", "the server ran what cannot be parsed");
      const run = head.run;
      if (run !== null) {
        run.tag = run.tag === "" ? tag : `${run.tag}; ${tag}`.slice(0, stringBytesMax);
        this.results.end(run);
      }
      return this.#reply(head);
    }
    const { run } = this.#need("execute");
    this.#shift();
    if (run !== null) {
      run.tag = tag;
      this.results.end(run);
      state.finish(run);
      this.#ended(run, tag !== "suspended");
    }
    return this.#state.dropping ? take : pass;
  }

  #ended(run: Run, succeeded: boolean): void {
    const state = this.#state;
    if (run.info !== null) state.names.apply(run.info, succeeded && run.error === null);
    if (state.copy?.run === run) state.copy = null;
  }

  #error(bytes: Buffer, start: number, end: number): Fate {
    const state = this.#state;
    this.#stopCounting();
    const { expected } = state;
    const head = expected.head;
    if (head === undefined) {
      const masked = this.results.maskError(bytes, start, end, null);
      return masked === null ? pass : this.#instead(masked);
    }
    const { run } = head;
    let reply: Buffer | null = head.response;
    if (reply === null && !this.#state.dropping) reply = this.results.maskError(bytes, start, end, run);
    if (run?.probe?.stage === "describing" && head.ours) {
      run.probe.stage = "failed";
      reply = reply === null ? withoutPosition(bytes, start, end) : withoutPosition(reply, 0, reply.length);
    }
    if (run !== null) {
      if (run.error === null) {
        const fields = reply === null ? readErrorFields(bytes, start, end) : readErrorFields(reply, 0, reply.length);
        run.error = { code: fields.get("C") ?? "", message: fields.get("M") ?? "" };
      }
      this.results.end(run);
    }
    if (head.awaited === "query" || head.awaited === "sync" || head.awaited === "call" || head.awaited === "startup") {
      // ReadyForQuery still comes.
      if (state.copy !== null && state.copy.run === run) state.copy = null;
    } else this.#failBatch();
    if (this.#state.dropping) return take;
    return reply === null ? pass : this.#instead(reply);
  }

  /** The server skips everything up to the next Sync; what it skipped changes no name. */
  #failBatch(): void {
    const state = this.#state;
    const { expected, names } = state;
    const skipped: Entry[] = [];
    while (expected.head !== undefined && expected.head.awaited !== "sync") skipped.push(expected.shift() as Entry);
    for (const one of skipped.reverse()) {
      if (one.prepared !== null && (one.awaited === "parse" || one.awaited === "close"))
        names.statements.refuse(one.prepared.name, one.prepared);
      if (one.portal !== null && (one.awaited === "bind" || one.awaited === "close"))
        names.portals.refuse(one.portal.name, one.portal);
      if (one.run !== null && one.awaited !== "describe") {
        one.run.error ??= { code: "", message: "skipped after an error" };
        state.finish(one.run);
        if (one.run.info !== null) names.apply(one.run.info, false);
      }
    }
    const { copy } = state;
    if (copy !== null && skipped.some(({ run }) => run === copy.run)) {
      state.copy = null;
      if (copy.syncKept && expected.head === undefined) {
        // The client sent its Sync already, and the server, not in copy mode any more, needs one.
        state.sendServer(syncMessage);
        expected.push(entry("sync"));
        state.endBatch();
        return;
      }
    }
    state.wakeFrontend = true;
    if (expected.head === undefined) this.#frontend.failBatch();
  }

  #ready(transaction: number, length: number): Fate {
    const state = this.#state;
    const { expected } = state;
    if (length !== headerBytes + 1) throw new PeerError("WEIR_FRAME_INVALID", "ReadyForQuery has the wrong length");
    this.#stopCounting();
    if (this.#state.dropping)
      while (expected.head !== undefined && !endsWithReady(expected.head)) this.#dropEntry(expected.shift() as Entry);
    const head = expected.head;
    if (head === undefined || !endsWithReady(head))
      throw new PeerError("WEIR_STATE_INVALID", "the server is ready where nothing asked for it");
    this.#shift();
    state.transaction = transaction;
    this.#state.dropping = false;
    if (head.run !== null) {
      state.finish(head.run);
      this.#ended(head.run, true);
    }
    if (head.awaited === "startup") state.ready = true;
    // Portals end with the transaction; the ones sent ahead are not confirmed yet and stay.
    if (transaction === idle && expected.length === 0 && !state.batchDirty) state.names.portals.clear();
    state.wakeFrontend = true;
    return pass;
  }

  #dropEntry(gone: Entry): void {
    const { names } = this.#state;
    if (gone.prepared !== null && gone.awaited !== "describe")
      names.statements.refuse(gone.prepared.name, gone.prepared);
    if (gone.portal !== null && (gone.awaited === "bind" || gone.awaited === "close"))
      names.portals.refuse(gone.portal.name, gone.portal);
    if (gone.run !== null && gone.awaited === "execute") this.#state.finish(gone.run);
  }

  #parameterStatus(bytes: Buffer, start: number, end: number): Fate {
    const { name, value } = readParameterStatus(bytes, start, end);
    // The one reported parameter that takes any text, and so a masked value by set_config.
    if (name === "application_name" && this.results.hidesParameter(this.#state.expected.head?.run ?? null))
      return this.#instead(message(backend.parameterStatus, Buffer.from(`${name}\0***\0`)));
    if (name === "client_encoding") this.#state.encoding = value.toUpperCase();
    else if (name === "standard_conforming_strings") this.#state.standardStrings = value === "on";
    return pass;
  }

  #copyIn(): Fate {
    const state = this.#state;
    const run = this.#rowRun();
    if (this.#state.dropping) {
      state.sendServer(copyFail);
      return take;
    }
    if (state.copy?.run !== run) throw new PeerError("WEIR_STATE_INVALID", "a COPY that its text did not show");
    state.copy.starts += 1;
    // In copy mode the server ignores Sync.
    state.expected.remove((one) => one.inCopy);
    return pass;
  }

  #copyOut(bytes: Buffer, start: number, end: number): Fate {
    const run = this.#rowRun();
    if (this.#state.dropping) return take;
    return this.results.copyBegin(run, readCopyResponse(bytes, start, end)) === "wait" ? stop : pass;
  }

  #copyBoth(): Fate {
    const run = this.#rowRun();
    // Streaming replication: both sides send CopyData until both are done; it was asked as replication.
    this.#state.copy = { run, starts: 1, dones: 0, syncKept: false };
    return pass;
  }
}

/** A place in a text that is not the client's (P, and p with the text q) tells it nothing. */
function withoutPosition(bytes: Buffer, start: number, end: number): Buffer {
  const fields = [...readErrorFields(bytes, start, end)].filter(([field]) => !"Ppq".includes(field));
  return message(backend.error, Buffer.from(`${fields.map(([field, value]) => `${field}${value}\0`).join("")}\0`));
}

function endsWithReady(head: Entry): boolean {
  return head.awaited === "query" || head.awaited === "sync" || head.awaited === "call" || head.awaited === "startup";
}

function limitReason(reason: string, rows: number): string {
  return `${reason === "" ? "the result has too many rows" : reason} (limit: ${rows} rows)`;
}
