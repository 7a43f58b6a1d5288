/** A session of Gemini's Live API with the official Google Gen AI SDK. */
import { GoogleGenAI } from "@google/genai";
import { report } from "./report.mjs";

const client = new GoogleGenAI({ apiKey: process.env.GEMINI_API_KEY, httpOptions: { apiVersion: "v1beta" } });

async function session(prompt) {
  let live;
  return new Promise((resolve, reject) => {
    let text = "";
    const calls = [];
    client.live
      .connect({
        model: "gemini-live-2.5-flash",
        config: { responseModalities: ["TEXT"] },
        callbacks: {
          onmessage({ serverContent, toolCall }) {
            for (const part of serverContent?.modelTurn?.parts ?? []) text += part.text ?? "";
            calls.push(...(toolCall?.functionCalls ?? []).map(({ name, args }) => ({ name, args })));
            if (serverContent?.turnComplete) resolve({ text, calls });
          },
          onerror: (event) => reject(event.error ?? new Error(event.message)),
          onclose: ({ code, reason }) => reject(new Error(`closed with ${code}: ${reason}`)),
        },
      })
      .then((opened) => {
        live = opened;
        live.sendClientContent({ turns: prompt, turnComplete: true });
      }, reject);
  }).finally(() => live?.close());
}

await report({ session, tools: session }, { session: "customer", tools: "weather" });
