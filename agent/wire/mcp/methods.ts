/** What a client may say in MCP, revisions 2024-11-05 to 2026-07-28, and where each message names what it is about. */

/** Methods that a client sends, with the member of `params` that names their object. */
const methods: Readonly<Record<string, { readonly name?: "name" | "uri" | "taskId" | "ref"; readonly writes?: true }>> =
  {
    initialize: {},
    ping: {},
    "server/discover": {},
    "tools/list": {},
    "tools/call": { name: "name", writes: true },
    "resources/list": {},
    "resources/templates/list": {},
    "resources/read": { name: "uri" },
    "resources/subscribe": { name: "uri" },
    "resources/unsubscribe": { name: "uri" },
    "prompts/list": {},
    "prompts/get": { name: "name" },
    "completion/complete": { name: "ref" },
    "logging/setLevel": {},
    "subscriptions/listen": {},
    "tasks/list": {},
    "tasks/get": { name: "taskId" },
    "tasks/result": { name: "taskId" },
    "tasks/update": { name: "taskId", writes: true },
    "tasks/cancel": { name: "taskId", writes: true },
    "notifications/initialized": {},
    "notifications/cancelled": {},
    "notifications/progress": {},
    "notifications/roots/list_changed": {},
    "notifications/tasks/status": { name: "taskId" },
  };

/** Names of our own for what has no method: the client's answer to a question, its listening stream, its goodbye. */
export const answerMethod = "response";
export const streamMethod = "stream/open";
export const closeMethod = "session/close";

export function isKnown(method: string): boolean {
  return Object.hasOwn(methods, method);
}

export function isWriting(method: string): boolean {
  return Object.hasOwn(methods, method) ? methods[method]?.writes === true : true;
}

/** The member of `params` that names the object; null: the method has none. */
export function nameMember(method: string): "name" | "uri" | "taskId" | "ref" | null {
  return Object.hasOwn(methods, method) ? (methods[method]?.name ?? null) : null;
}
