/**
 * The client's messages after the login: each operation is asked before its bytes leave, a denied one is answered in
 * the protocol, and what is no operation of its own goes with the permit of the session.
 */
import type { Decision } from "../../core/verdict.ts";
import { PeerError } from "../../errors.ts";
import { type Asked, bindRun, callRun, cursorRun, parseRun, queryRun } from "./asked-runs.ts";
import { message } from "./backend-messages.ts";
import { BrokenBatch } from "./broken-batch.ts";
import { CopiedColumns } from "./copied-columns.ts";
import { probeStep, sendCopy } from "./copy-probe.ts";
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
import { pipelineMessagesMax, statementBytesMax } from "./limits.ts";
import { Question } from "./question.ts";
import { copyDeniedResponse, tooLargeResponse } from "./refusal.ts";
import { needsFields } from "./results.ts";
import { newPortal, newPrepared, type Run } from "./run.ts";
import { isBarrier, type SessionState } from "./state.ts";

const syncMessage = message(frontend.sync, Buffer.alloc(0));
const flushMessage = message(frontend.flush, Buffer.alloc(0));

export class Frontend implements FrameReader {
  readonly framer = new Framer(this);
  readonly #state: SessionState;
  readonly question: Question;
  readonly #broken: BrokenBatch;
  #bind: BindMessage | null = null;
  #draining = false;
  readonly copied: CopiedColumns;

  constructor(state: SessionState) {
    this.#state = state;
    this.question = new Question(state);
    this.#broken = new BrokenBatch(state, this.framer);
    this.copied = new CopiedColumns(state);
  }

  untouched(bytes: Buffer): void {
    this.#state.sendServer(bytes, this.#state.forwardPermit);
  }

  frame(type: number, bytes: Buffer, start: number, end: number): Fate {
    const state = this.#state;
    if (!state.ready) return stop;
    if (this.#broken.skipping) return this.#broken.skip(type);
    if (state.expected.length >= pipelineMessagesMax) {
      return this.#settle();
    }
    // A cancel of what is dropped must not meet a later statement.
    if (state.dropping && state.copying === null && type !== frontend.sync && type !== frontend.terminate) return stop;
    if (state.copying !== null && !this.question.isDecided) {
      if (state.expected.length > 0) return this.#settle();
      state.copying = null;
    }
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
        state.endBatch();
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
    if (type === frontend.copyData) return state.copy !== null && !this.#broken.skipping ? "pass" : "drop";
    if (this.#broken.skipping) return type === frontend.sync ? "collect" : "drop";
    if (length <= statementBytesMax) return "collect";
    // A large parameter of a statement that is known: its beginning says all that is shown to anybody.
    if (type === frontend.bind) return "head";
    if (this.question.waiting !== null) return stop;
    this.#refuseTooLarge(type, length);
    return "drop";
  }

  head(type: number, length: number, bytes: Buffer): Fate {
    const state = this.#state;
    if (this.#broken.skipping) return take;
    if (state.copy !== null) {
      const fate = this.#duringCopy(type);
      if (fate !== null) return fate;
    }
    return this.#bindMessage(bytes, 0, bytes.length, length);
  }

  /** The decision for the run that waits. */
  decided(decision: Decision, approvalId: string | null, by: string): void {
    if (this.question.decided(decision, approvalId, by)) this.framer.go();
  }

  /** The client gave up what it waits for. */
  cancelled(reason: string): void {
    if (this.question.cancelled(reason)) this.framer.go();
  }

  /** The server failed a message of this batch: it skips to the next Sync, and so do we. */
  failBatch(): void {
    if (!this.#broken.failed()) return;
    this.#bind = null;
    if (this.question.drop()) this.#state.wakeFrontend = true;
  }

  /** Looks again at what stopped it. */
  wake(): void {
    if (this.question.waiting !== null || !this.framer.stopped) return;
    const { expected } = this.#state;
    if (this.#draining && expected.length > 0) return;
    this.#draining = false;
    this.framer.go();
  }

  #ask(asked: Asked): Fate {
    if (asked === "in-flux") return this.#settle();
    this.question.ask(asked);
    return stop;
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
    const run = this.question.take();
    if (run === null) return this.#unsettled() ? this.#settle() : this.#ask(queryRun(state, bytes, start, end));
    if (!this.question.admit(run)) return this.#refuseSimple(run);
    const stored = this.#stores(run);
    if (stored !== "no") return stored === "wait" ? stop : this.#refuseSimple(run);
    if (!state.batchDirty) {
      const fate = this.#copyOut(run, bytes, start, end);
      if (fate !== null) return fate;
    }
    state.expected.push(entry("query", { run }));
    this.#begun(run);
    state.endBatch();
    return pass;
  }

  #parse(bytes: Buffer, start: number, end: number): Fate {
    const state = this.#state;
    const answered = this.question.take();
    if (answered === null) return this.#unsettled() ? this.#settle() : this.#ask(parseRun(state, bytes, start, end));
    if (!this.question.admit(answered)) return this.#refuseExtended(answered);
    const { name, from, to } = readParse(bytes, start, end);
    const { text, traits } = state.text(bytes, from, to);
    const prepared = newPrepared(name, state.batch, { text, info: answered.info, traits, bytes: end - start });
    state.names.statements.set(name, prepared);
    state.expected.push(entry("parse", { prepared }));
    state.batchDirty = true;
    return pass;
  }

  /** `length` is the message's own; of a long one only the beginning is here. */
  #bindMessage(bytes: Buffer, start: number, end: number, length = end - start): Fate {
    const state = this.#state;
    const run = this.question.take();
    if (run === null) {
      if (this.#unsettled()) return this.#settle();
      const bind = readBind(bytes, start, end, length > end - start);
      const asked = bindRun(state, bind, length);
      if (asked !== "in-flux") this.#bind = bind;
      return this.#ask(asked);
    }
    const bind = this.#bind ?? readBind(bytes, start, end, length > end - start);
    this.#bind = null;
    if (!this.question.admit(run)) return this.#refuseExtended(run);
    const stored = this.#stores(run);
    if (stored === "wait") this.#bind = bind;
    if (stored !== "no") return stored === "wait" ? stop : this.#refuseExtended(run);
    const prepared = state.names.statements.find(bind.statement, state.batch);
    const portal = newPortal(bind.portal, state.batch, {
      run,
      prepared: prepared === "in-flux" ? null : prepared,
      resultFormats: bind.resultFormats,
    });
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
    const answered = this.question.take();
    const { portal: name } = readExecute(bytes, start, end);
    const portal = state.names.portals.find(name, state.batch);
    if (portal === "in-flux") return this.#settle();
    let run = portal?.run ?? null;
    if (run === null) {
      if (answered === null) return this.#unsettled() ? this.#settle() : this.#ask(cursorRun(state, name, end - start));
      if (!this.question.admit(answered)) return this.#refuseExtended(answered);
      run = answered;
    } else if (run.permit !== null && run.permit !== state.forwardPermit) {
      this.framer.flush();
      state.forwardPermit = run.permit;
    }
    if (run.finished) {
      run.finished = false;
      run.startedMs = state.context.now();
    }
    if (!state.batchRan || run.probe !== null) {
      const step = this.#probe(run);
      if (step !== "go") return stop;
      if (run.probe !== null) state.copying = run;
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
      this.question.keep(run);
      return "wait";
    }
    this.question.refuse(run, copyDeniedResponse(reason), reason);
    return "yes";
  }

  #probe(run: Run): ReturnType<typeof probeStep> {
    if (run.probe?.stage === "describe") this.framer.flush();
    const step = probeStep(run, this.#state);
    if (step === "describe") this.#draining = true;
    return step;
  }

  /** A COPY in a Query that has to be described; null: it goes as any other. */
  #copyOut(run: Run, bytes: Buffer, start: number, end: number): Fate | null {
    const state = this.#state;
    const step = this.#probe(run);
    const { probe } = run;
    if (step === "go" && probe === null) return null;
    if (step === "failed" || probe?.stage === "sent") {
      // Its answers are the client's already; what it waits for now is ReadyForQuery.
      state.copying = null;
      this.framer.flush();
      state.sendServer(syncMessage);
      state.expected.push(entry("sync"));
      state.endBatch();
      return take;
    }
    this.question.keep(run);
    if (step !== "go" || probe === null) return stop;
    probe.stage = "sent";
    this.framer.flush();
    const { from, to } = readQuery(bytes, start, end);
    sendCopy(run, bytes.subarray(from, to), state);
    state.copying = run;
    this.#draining = true;
    return stop;
  }

  #close(bytes: Buffer, start: number, end: number): Fate {
    const state = this.#state;
    const target = readTarget(bytes, start, end);
    if (target.portal) {
      const portal = newPortal(target.name, state.batch, null);
      state.names.portals.set(target.name, portal);
      state.expected.push(entry("close", { portal }));
    } else {
      const prepared = newPrepared(target.name, state.batch, null);
      state.names.statements.set(target.name, prepared);
      state.expected.push(entry("close", { prepared }));
    }
    state.batchDirty = true;
    return pass;
  }

  #functionCall(bytes: Buffer, start: number, end: number): Fate {
    const state = this.#state;
    const run = this.question.take();
    if (run === null) return this.#unsettled() ? this.#settle() : this.#ask(callRun(state, bytes, start, end));
    if (!this.question.admit(run)) return this.#refuseSimple(run);
    state.expected.push(entry("call", { run, called: readFunctionCall(bytes, start, end) }));
    state.endBatch();
    return pass;
  }

  #begun(run: Run): void {
    const state = this.#state;
    const { info } = run;
    state.batchRan = true;
    if (info === null || isBarrier(info)) state.barrier = true;
    if (info?.traits.includes("copy-in")) state.copy = { run, starts: 0, dones: 0, syncKept: false };
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
        state.endBatch();
        return pass;
      default:
        if (copy.starts > 0 && open) throw new PeerError("WEIR_STATE_INVALID", "COPY FROM STDIN is not finished");
        return this.#settle();
    }
  }

  #refuseSimple(run: Run): Fate {
    this.#broken.refuse(this.question.refusal(run), false);
    return take;
  }

  #refuseExtended(run: Run): Fate {
    this.#broken.refuse(this.question.refusal(run), true);
    return take;
  }

  #refuseTooLarge(type: number, length: number): void {
    const response = tooLargeResponse(length, statementBytesMax);
    this.#broken.refuse(response, type !== frontend.query && type !== frontend.functionCall);
  }
}

/** Describe: Byte1 'P', String portal. */
function describePortal(name: string): Buffer {
  return message(frontend.describe, Buffer.from(`P${name}\0`, "latin1"));
}
