/**
 * The client's messages after the login: each operation is asked before its bytes leave, a denied one is answered in
 * the protocol, and what is no operation of its own goes with the permit of the session.
 */
import type { Decision } from "../../core/verdict.ts";
import { PeerError } from "../../errors.ts";
import { message, readyForQuery } from "./backend-messages.ts";
import { CopiedColumns } from "./copied-columns.ts";
import { copyProbe, isProbed } from "./copy-probe.ts";
import { entry } from "./expected.ts";
import { type Fate, type FrameReader, Framer, type PartialFate, pass, stop, take } from "./framer.ts";
import {
  type BindMessage,
  frontend,
  readBind,
  readExecute,
  readFunctionCall,
  readParse,
  readQuery,
  readTarget,
} from "./frontend-messages.ts";
import { callOperation } from "./function-call.ts";
import { pipelineMessagesMax, statementBytesMax } from "./limits.ts";
import { plainOperation, statementOperation, withParameters } from "./operation.ts";
import {
  copyDeniedResponse,
  deniedResponse,
  deniedText,
  heldNotice,
  maskDeniedResponse,
  tooLargeResponse,
  withdrawnResponse,
} from "./refusal.ts";
import { carriesData, replicationCommand } from "./replication.ts";
import { needsFields } from "./results.ts";
import { newRun, nextLimit, type Portal, type Prepared, type Run } from "./run.ts";
import { inTransaction, isBarrier, type SessionState } from "./state.ts";

/** A syntax error wherever it is read, and the same for every denied statement: its text never gets there. */
const substituteText = Buffer.from("weir_denied_statement\0");
const substituteQuery = message(frontend.query, substituteText);
const substituteParse = message(frontend.parse, Buffer.concat([Buffer.from([0]), substituteText, Buffer.from([0, 0])]));
const syncMessage = message(frontend.sync, Buffer.alloc(0));
const flushMessage = message(frontend.flush, Buffer.alloc(0));

export class Frontend implements FrameReader {
  readonly framer = new Framer(this);
  readonly #state: SessionState;
  /** Asked, and perhaps held, until its decision comes. */
  waiting: Run | null = null;
  held = false;
  /** Decided; taken when the message it belongs to is shown again. */
  #answered: Run | null = null;
  #bind: BindMessage | null = null;
  /** What is sent in place of the policy's own words: a hold that was cancelled. */
  #response: Buffer | null = null;
  /** After an error of the extended protocol everything up to Sync is skipped, as the server does it. */
  #skipping = false;
  /** The server heard nothing of the batch, so its Sync is answered here. */
  #skippingHere = false;
  #draining = false;
  readonly copied: CopiedColumns;

  constructor(state: SessionState) {
    this.#state = state;
    this.copied = new CopiedColumns(state);
  }

  untouched(bytes: Buffer): void {
    this.#state.sendServer(bytes, this.#state.forwardPermit);
  }

  frame(type: number, bytes: Buffer, start: number, end: number): Fate {
    const state = this.#state;
    if (!state.ready) return stop;
    if (this.#skipping) return this.#skip(type);
    if (state.expected.length >= pipelineMessagesMax) {
      return this.#settle();
    }
    // A cancel of what is dropped must not meet a later statement.
    if (state.dropping && type !== frontend.sync && type !== frontend.terminate) return stop;
    if (state.copy !== null) {
      const fate = this.#duringCopy(type);
      if (fate !== null) return fate;
    }
    switch (type) {
      case frontend.bind:
        return this.#bindMessage(bytes, start, end);
      case frontend.execute:
        return this.#execute(bytes, start, end);
      case frontend.describe:
        return this.#describe(bytes, start, end);
      case frontend.sync:
        state.expected.push(entry("sync"));
        this.#endBatch();
        return pass;
      case frontend.query:
        return this.#query(bytes, start, end);
      case frontend.parse:
        return this.#parse(bytes, start, end);
      case frontend.close:
        return this.#close(bytes, start, end);
      case frontend.flush:
      case frontend.terminate:
        return pass;
      case frontend.functionCall:
        return this.#functionCall(bytes, start, end);
      case frontend.copyData:
      case frontend.copyDone:
      case frontend.copyFail:
        // The server ignores them outside of COPY; there is no permit that they could go with.
        return take;
      default:
        throw new PeerError("WEIR_STATE_INVALID", `the client sent a message of the type ${type}`);
    }
  }

  begin(type: number, length: number): PartialFate | typeof stop {
    const state = this.#state;
    if (!state.ready) return stop;
    if (type === frontend.copyData) return state.copy !== null && !this.#skipping ? "pass" : "drop";
    if (this.#skipping) return type === frontend.sync ? "collect" : "drop";
    if (length <= statementBytesMax) return "collect";
    // A large parameter of a statement that is known: its beginning says all that is shown to anybody.
    if (type === frontend.bind) return "head";
    if (this.waiting !== null) return stop;
    this.#refuseTooLarge(type, length);
    return "drop";
  }

  head(type: number, length: number, bytes: Buffer): Fate {
    const state = this.#state;
    if (this.#skipping) return take;
    if (state.copy !== null) {
      const fate = this.#duringCopy(type);
      if (fate !== null) return fate;
    }
    return this.#bindMessage(bytes, 0, bytes.length, length);
  }

  /** The decision for the run that waits. */
  decided(decision: Decision, approvalId: string | null, by: string): void {
    const run = this.waiting;
    const state = this.#state;
    if (run === null) return;
    run.verdict = decision.verdict;
    run.permit = decision.permit;
    if (approvalId !== null) run.approvalId = approvalId;
    run.by = by;
    this.#record(run);
    if (decision.action !== "deny" && run.operation.kind === "replication" && !this.#mayStream(run)) return;
    if (decision.action === "hold") {
      this.held = true;
      state.notices.push(heldNotice(run.approvalId ?? "", decision.verdict));
      return;
    }
    this.#resume(run);
  }

  /** A stream of the server's log cannot be masked: it is refused before it begins. */
  #mayStream(run: Run): boolean {
    if ((run.verdict?.transforms.masks.length ?? 0) === 0 || !carriesData(run.info)) return true;
    const reason = "replication carries whole tables past every mask";
    this.#response = maskDeniedResponse(reason);
    run.error = { code: "42501", message: reason };
    run.startedMs = this.#state.context.now();
    this.#state.finish(run);
    this.#resume(run);
    return false;
  }

  /** The client gave up what it waits for. */
  cancelled(reason: string): void {
    const run = this.waiting;
    if (run === null || !this.held) return;
    this.#state.out.push({ type: "withdraw", askId: run.askId, reason });
    this.#response = withdrawnResponse();
    this.#resume(run);
  }

  /** The server failed a message of this batch: it skips to the next Sync, and so do we. */
  failBatch(): void {
    const state = this.#state;
    if (!state.batchDirty || this.#skipping) return;
    this.#skipping = true;
    this.#skippingHere = false;
    // Decided, and waiting for what the server tells of it: it is skipped, and must not stand for a later message.
    if (this.#answered !== null) state.finish(this.#answered);
    this.#answered = null;
    this.#bind = null;
    if (this.waiting === null) return;
    if (this.held)
      state.out.push({ type: "withdraw", askId: this.waiting.askId, reason: "an earlier message of the batch failed" });
    this.waiting = null;
    this.held = false;
    state.wakeFrontend = true;
  }

  /** Looks again at what stopped it. */
  wake(): void {
    if (this.waiting !== null || !this.framer.stopped) return;
    const { expected } = this.#state;
    if (this.#draining && expected.length > 0) return;
    this.#draining = false;
    this.framer.go();
  }

  #resume(run: Run): void {
    this.waiting = null;
    this.held = false;
    this.#answered = run;
    this.framer.go();
  }

  #record(run: Run): void {
    if (run.recorded || run.verdict === null) return;
    run.recorded = true;
    this.#state.record({
      type: "operation",
      operationId: run.askId,
      operation: this.#state.recordable(run.operation, run.verdict),
      verdict: run.verdict,
      approvalId: run.approvalId,
    });
  }

  #ask(run: Run): Fate {
    this.waiting = run;
    this.#state.out.push({ type: "ask", askId: run.askId, operation: run.operation });
    return stop;
  }

  /** True when it may go; a run that was just decided is taken from here. */
  #admit(run: Run): boolean {
    const state = this.#state;
    if (run.permit === null || run.verdict === null || this.#response !== null) return false;
    state.forwardPermit = run.permit;
    run.startedMs = state.context.now();
    const { masks, limits } = run.verdict.transforms;
    if (masks.length > 0) state.masks = masks;
    if (limits.length > 0) run.rowsMax = nextLimit(limits, -1)?.rows ?? run.rowsMax;
    return true;
  }

  #takeAnswered(): Run | null {
    const run = this.#answered;
    this.#answered = null;
    return run;
  }

  /** Waits until everything sent so far is answered; a Flush makes the server say what it holds back. */
  #settle(): Fate {
    const state = this.#state;
    if (state.expected.length === 0) throw new PeerError("WEIR_STATE_INVALID", "nothing is left that could settle it");
    this.#draining = true;
    if (state.batchDirty) {
      this.framer.flush();
      state.sendServer(flushMessage);
    }
    return stop;
  }

  #unsettled(): boolean {
    const state = this.#state;
    if (!state.barrier) return false;
    if (state.expected.length > 0) return true;
    state.barrier = false;
    return false;
  }

  #query(bytes: Buffer, start: number, end: number): Fate {
    const state = this.#state;
    const run = this.#takeAnswered();
    if (run === null) {
      if (this.#unsettled()) return this.#settle();
      const { from, to } = readQuery(bytes, start, end);
      const { text, traits } = state.text(bytes, from, to);
      const command = state.replicates ? replicationCommand(text) : null;
      const info = command ?? state.describe(text);
      const through = state.names.through(info, state.batch);
      if (through === "in-flux") return this.#settle();
      const operation = statementOperation(
        command === null ? "statement" : "replication",
        state.speaker,
        text,
        info,
        end - start,
        unknownAdded(traits, through),
        known(through),
      );
      return this.#ask(newRun(state.nextAskId++, operation, info, known(through)));
    }
    if (!this.#admit(run)) return this.#refuseSimple(run);
    const stored = this.#stores(run);
    if (stored !== "no") return stored === "wait" ? stop : this.#refuseSimple(run);
    if (isProbed(run, state) && !state.batchDirty) {
      this.#answered = run;
      return this.#probe(run);
    }
    if (run.probe === "failed") {
      // The client has the server's error; what it waits for now is ReadyForQuery.
      this.framer.flush();
      state.sendServer(syncMessage);
      state.expected.push(entry("sync"));
      this.#endBatch();
      return take;
    }
    state.expected.push(entry("query", { run }));
    this.#begun(run);
    this.#endBatch();
    return pass;
  }

  #parse(bytes: Buffer, start: number, end: number): Fate {
    const state = this.#state;
    const answered = this.#takeAnswered();
    if (answered === null) {
      if (this.#unsettled()) return this.#settle();
      const { from, to } = readParse(bytes, start, end);
      const { text, traits } = state.text(bytes, from, to);
      const info = state.describe(text);
      const operation = statementOperation("prepare", state.speaker, text, info, end - start, traits);
      return this.#ask(newRun(state.nextAskId++, operation, info));
    }
    if (!this.#admit(answered)) return this.#refuseExtended(answered);
    const { name, from, to } = readParse(bytes, start, end);
    const { text, traits } = state.text(bytes, from, to);
    const prepared: Prepared = {
      name,
      text,
      info: answered.info,
      traits,
      bytes: end - start,
      batch: state.batch,
      confirmed: false,
      closed: false,
      previous: null,
      refused: false,
      description: null,
      operation: null,
    };
    state.names.statements.set(name, prepared);
    state.expected.push(entry("parse", { prepared }));
    state.batchDirty = true;
    return pass;
  }

  /** `length` is the message's own; of a long one only the beginning is here. */
  #bindMessage(bytes: Buffer, start: number, end: number, length = end - start): Fate {
    const state = this.#state;
    const run = this.#takeAnswered();
    if (run === null) {
      if (this.#unsettled()) return this.#settle();
      const bind = readBind(bytes, start, end, length > end - start);
      const prepared = state.names.statements.find(bind.statement, state.batch);
      if (prepared === "in-flux") return this.#settle();
      const through = prepared?.info == null ? [] : state.names.through(prepared.info, state.batch);
      if (through === "in-flux") return this.#settle();
      this.#bind = bind;
      const operation = withParameters(boundOperation(state, prepared, bind, through), bind.parameters, length);
      return this.#ask(newRun(state.nextAskId++, operation, prepared?.info ?? null, known(through)));
    }
    const bind = this.#bind ?? readBind(bytes, start, end, length > end - start);
    this.#bind = null;
    if (!this.#admit(run)) return this.#refuseExtended(run);
    const stored = this.#stores(run);
    if (stored === "wait") this.#bind = bind;
    if (stored !== "no") return stored === "wait" ? stop : this.#refuseExtended(run);
    const prepared = state.names.statements.find(bind.statement, state.batch);
    const portal: Portal = {
      name: bind.portal,
      run,
      prepared: prepared === "in-flux" ? null : prepared,
      resultFormats: bind.resultFormats,
      batch: state.batch,
      confirmed: false,
      closed: false,
      previous: null,
      refused: false,
      description: null,
      described: false,
    };
    state.names.portals.set(bind.portal, portal);
    state.expected.push(entry("bind", { portal }));
    state.batchDirty = true;
    return pass;
  }

  #describe(bytes: Buffer, start: number, end: number): Fate {
    const state = this.#state;
    const target = readTarget(bytes, start, end);
    if (target.portal) {
      const portal = state.names.portals.find(target.name, state.batch);
      if (portal === "in-flux") return this.#settle();
      if (portal !== null) portal.described = true;
      state.expected.push(entry("describe", { portal }));
    } else {
      const prepared = state.names.statements.find(target.name, state.batch);
      if (prepared === "in-flux") return this.#settle();
      state.expected.push(entry("describe", { prepared }));
    }
    state.batchDirty = true;
    return pass;
  }

  #execute(bytes: Buffer, start: number, end: number): Fate {
    const state = this.#state;
    const answered = this.#takeAnswered();
    const { portal: name } = readExecute(bytes, start, end);
    const portal = state.names.portals.find(name, state.batch);
    if (portal === "in-flux") return this.#settle();
    let run = portal?.run ?? null;
    if (run === null) {
      // A cursor made in SQL, or one that we know nothing of.
      if (answered === null) {
        if (this.#unsettled()) return this.#settle();
        const cursor = state.names.cursor(name) ?? null;
        const operation =
          cursor === null
            ? plainOperation("statement", state.speaker, {
                traits: ["unknown-prepared"],
                writes: true,
                bytes: end - start,
              })
            : statementOperation("statement", state.speaker, "", cursor, end - start, []);
        return this.#ask(newRun(state.nextAskId++, operation, cursor));
      }
      if (!this.#admit(answered)) return this.#refuseExtended(answered);
      run = answered;
    } else if (run.permit !== null && run.permit !== state.forwardPermit) {
      this.framer.flush();
      state.forwardPermit = run.permit;
    }
    if (run.finished) {
      run.finished = false;
      run.startedMs = state.context.now();
    }
    if (isProbed(run, state) && !state.batchRan) {
      state.batchDirty = true;
      return this.#probe(run);
    }
    const undescribed = portal?.prepared?.description == null || portal.resultFormats === null;
    if (undescribed && portal?.described !== true && needsFields(run)) {
      this.framer.flush();
      state.sendServer(describePortal(name));
      state.expected.push(entry("describe", { portal, run, ours: true }));
      if (portal !== null) portal.described = true;
    }
    state.expected.push(entry("execute", { run, portal }));
    this.#begun(run);
    state.batchDirty = true;
    return pass;
  }

  /** Whether it may not go because it would store a masked column elsewhere; `wait`: its names are not known yet. */
  #stores(run: Run): "no" | "yes" | "wait" {
    const reason = this.copied.refusal(run);
    if (reason === null) return "no";
    if (reason === "wait") {
      this.#answered = run;
      return "wait";
    }
    this.#response = copyDeniedResponse(reason);
    run.error = { code: "42501", message: reason };
    this.#state.finish(run);
    return "yes";
  }

  /** In the transaction in which the COPY will run, so that the locks of the one hold for the other. */
  #probe(run: Run): Fate {
    const state = this.#state;
    run.probe = "asked";
    this.framer.flush();
    state.sendServer(copyProbe(run), run.permit ?? state.permit);
    for (const awaited of ["parse", "describe", "close"] as const)
      state.expected.push(entry(awaited, { run, ours: true }));
    this.#draining = true;
    return stop;
  }

  #close(bytes: Buffer, start: number, end: number): Fate {
    const state = this.#state;
    const target = readTarget(bytes, start, end);
    const gone = {
      name: target.name,
      batch: state.batch,
      confirmed: false,
      closed: true,
      previous: null,
      refused: false,
    };
    if (target.portal) {
      const portal: Portal = {
        ...gone,
        run: null,
        prepared: null,
        resultFormats: [],
        description: null,
        described: false,
      };
      state.names.portals.set(target.name, portal);
      state.expected.push(entry("close", { portal }));
    } else {
      const prepared: Prepared = {
        ...gone,
        text: "",
        info: null,
        traits: [],
        bytes: 0,
        description: null,
        operation: null,
      };
      state.names.statements.set(target.name, prepared);
      state.expected.push(entry("close", { prepared }));
    }
    state.batchDirty = true;
    return pass;
  }

  #functionCall(bytes: Buffer, start: number, end: number): Fate {
    const state = this.#state;
    const run = this.#takeAnswered();
    if (run === null) {
      if (this.#unsettled()) return this.#settle();
      const { oid } = readFunctionCall(bytes, start, end);
      const call = { oid, bytes: end - start };
      const { operation, info } = callOperation(state.speaker, call, (text) => state.describe(text));
      return this.#ask(newRun(state.nextAskId++, operation, info));
    }
    if (!this.#admit(run)) return this.#refuseSimple(run);
    state.expected.push(entry("call", { run, called: readFunctionCall(bytes, start, end) }));
    this.#endBatch();
    return pass;
  }

  #begun(run: Run): void {
    const state = this.#state;
    const { info } = run;
    state.batchRan = true;
    if (info === null || isBarrier(info)) state.barrier = true;
    if (info?.traits.includes("copy-in")) state.copy = { run, starts: 0, dones: 0, syncKept: false };
  }

  #endBatch(): void {
    this.#state.batch += 1;
    this.#state.batchDirty = false;
    this.#state.batchRan = false;
  }

  /** Null: the message is treated as at any other time. */
  #duringCopy(type: number): Fate | null {
    const state = this.#state;
    const { copy } = state;
    if (copy === null) return null;
    const open = copy.dones < Math.max(copy.starts, 1);
    switch (type) {
      case frontend.copyData:
        return pass;
      case frontend.copyDone:
      case frontend.copyFail:
        copy.dones += 1;
        return pass;
      case frontend.flush:
      case frontend.terminate:
        return pass;
      case frontend.sync:
        if (!open) return null;
        if (copy.starts > 0) {
          copy.syncKept = true;
          return take;
        }
        state.expected.push(entry("sync", { inCopy: true }));
        this.#endBatch();
        return pass;
      default:
        if (copy.starts > 0 && open) throw new PeerError("WEIR_STATE_INVALID", "COPY FROM STDIN is not finished");
        return this.#settle();
    }
  }

  #skip(type: number): Fate {
    const state = this.#state;
    if (type === frontend.terminate) return pass;
    if (type !== frontend.sync) return take;
    this.#skipping = false;
    if (this.#skippingHere) {
      this.#skippingHere = false;
      this.framer.flush();
      state.sendClient(readyForQuery(state.transaction));
      return take;
    }
    state.expected.push(entry("sync"));
    this.#endBatch();
    return pass;
  }

  /** True when the server has nothing in flight and no block that would have to fail. */
  #answeredHere(): boolean {
    const state = this.#state;
    return state.expected.length === 0 && !state.batchDirty && state.transaction !== inTransaction;
  }

  #refuseSimple(run: Run): Fate {
    this.#refuse(this.#refusal(run), false);
    return take;
  }

  #refuseExtended(run: Run): Fate {
    this.#refuse(this.#refusal(run), true);
    return take;
  }

  #refusal(run: Run): Buffer {
    const response = this.#response;
    this.#response = null;
    if (response !== null) {
      run.error ??= { code: "57014", message: "withdrawn" };
      return response;
    }
    if (run.verdict === null) throw new PeerError("WEIR_STATE_INVALID", "refused without a verdict");
    run.error = deniedText(run.verdict);
    return deniedResponse(run.verdict, "ERROR", run.approvalId !== null, run.by);
  }

  #refuse(response: Buffer, extended: boolean): void {
    const state = this.#state;
    this.framer.flush();
    if (this.#answeredHere()) {
      state.sendClient(response);
      if (!extended) state.sendClient(readyForQuery(state.transaction));
      else {
        this.#skipping = true;
        this.#skippingHere = true;
      }
      return;
    }
    state.sendServer(extended ? substituteParse : substituteQuery);
    state.expected.push(entry(extended ? "parse" : "query", { response }));
    if (extended) {
      this.#skipping = true;
      this.#skippingHere = false;
      state.batchDirty = true;
    } else this.#endBatch();
  }

  #refuseTooLarge(type: number, length: number): void {
    const response = tooLargeResponse(length, statementBytesMax);
    this.#refuse(response, type !== frontend.query && type !== frontend.functionCall);
  }
}

function boundOperation(
  state: SessionState,
  prepared: Prepared | null,
  bind: BindMessage,
  through: readonly (unknown | null)[],
): ReturnType<typeof plainOperation> {
  if (prepared?.info == null)
    return plainOperation("statement", state.speaker, {
      text: prepared?.text ?? "",
      traits: ["unknown-prepared"],
      writes: true,
      functions: [],
      relations: [],
      bytes: bind.parameters.length,
    });
  if (through.length === 0 && prepared.operation !== null) return prepared.operation;
  const operation = statementOperation(
    "statement",
    state.speaker,
    prepared.text,
    prepared.info,
    prepared.bytes,
    unknownAdded(prepared.traits, through as never),
    known(through as never),
  );
  if (through.length === 0) prepared.operation = operation;
  return operation;
}

function known<T>(through: readonly (T | null)[]): readonly T[] {
  return through.length === 0 ? (through as readonly T[]) : through.filter((info) => info !== null);
}

function unknownAdded(traits: readonly string[], through: readonly unknown[]): readonly string[] {
  return through.includes(null) ? [...traits, "unknown-prepared"] : traits;
}

/** Describe: Byte1 'P', String portal. */
function describePortal(name: string): Buffer {
  return message(frontend.describe, Buffer.from(`P${name}\0`, "latin1"));
}
