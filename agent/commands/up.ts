/** `weir up`: agent and embedded controller in one process. `weir agent` is the same without the page. */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { createController } from "../../controller/main.ts";
import { configHelp, readConfig } from "../config.ts";
import { startControl } from "../control/server.ts";
import { WeirError } from "../errors.ts";
import { native } from "../kernel/native.ts";
import { startAgent } from "../main.ts";
import { trustEnvironment } from "../tls/trust.ts";
import { answerControl } from "./control-answers.ts";
import type { CommandIo } from "./io.ts";

export const help = `weir up [options]

Runs the agent and an embedded controller. Prints "weir ready …" when interception is in force. Ctrl-C takes
everything away again: no rule, no cgroup, no process stays.

${configHelp}`;
