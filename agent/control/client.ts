/** Asks the agent over its Unix socket. */
import { createConnection } from "node:net";
import { WeirError } from "../errors.ts";
import { type ControlReply, type ControlRequest, controlLineBytesMax } from "./protocol.ts";

type Good = Extract<ControlReply, { ok: true }>;

/** The agent's answer; WeirError when it refuses, or when no agent answers at `path`. */
export function askAgent(path: string, request: ControlRequest): Promise<Good> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    let text = "";
    socket.setEncoding("utf8");
    socket.on("connect", () => socket.write(`${JSON.stringify(request)}\n`));
    socket.on("data", (piece: string) => {
      text += piece;
      if (text.length > controlLineBytesMax) socket.destroy(new Error("answer too long"));
    });
    socket.on("error", (cause) => {
      reject(
        new WeirError(
          "WEIR_AGENT_UNREACHABLE",
          `No agent answers on ${path} (${cause.message}). Start one with \`weir up\`, or name its state directory with --state.`,
          { cause },
        ),
      );
    });
    socket.on("close", () => {
      try {
        const reply = JSON.parse(text) as ControlReply;
        if (reply.ok) resolve(reply);
        else {
          const what = reply.code === "WEIR_CONTROL_REFUSED" ? "" : `${reply.code}: `;
          reject(new WeirError("WEIR_CONTROL_REFUSED", what + reply.message));
        }
      } catch {
        reject(new WeirError("WEIR_AGENT_UNREACHABLE", `The agent on ${path} closed without an answer.`));
      }
    });
  });
}
