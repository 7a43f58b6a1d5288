/** A realtime session with the official OpenAI SDK over npm `ws`. */
import { OpenAIRealtimeWS } from "openai/realtime/ws";
import { report } from "./report.mjs";

function session(prompt) {
  return new Promise((resolve, reject) => {
    const realtime = new OpenAIRealtimeWS({ model: "gpt-realtime" });
    let text = "";
    realtime.on("error", (error) => {
      reject(error);
      realtime.close();
    });
    realtime.on("response.output_text.delta", ({ delta }) => {
      text += delta;
    });
    realtime.on("response.done", ({ response }) => {
      resolve({ text, status: response.status });
      realtime.close();
    });
    realtime.on("session.created", () => {
      realtime.send({ type: "session.update", session: { type: "realtime", output_modalities: ["text"] } });
      realtime.send({
        type: "conversation.item.create",
        item: { type: "message", role: "user", content: [{ type: "input_text", text: prompt }] },
      });
      realtime.send({ type: "response.create" });
    });
  });
}

await report({ session }, { session: "customer" });
