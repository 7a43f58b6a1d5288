/**
 * npm `@copilotkit/aimock`, a mock of the model providers that nobody of this project wrote, as the origin of llm.ts:
 * plain HTTP on loopback, one reply of about 1 KB. Its argument: the port.
 */
import { createRequire } from "node:module";
import { sdkDir } from "../../support/aimock.ts";

interface LLMock {
  addFixture(fixture: object): void;
  start(): Promise<string>;
}

const { port } = JSON.parse(process.argv[2] ?? "{}") as { readonly port: number };
const load = createRequire(`${sdkDir}/package.json`);
const { LLMock: Mock } = load("@copilotkit/aimock") as { LLMock: new (options: object) => LLMock };
const mock = new Mock({ host: "127.0.0.1", port, strict: true });
mock.addFixture({ match: { userMessage: "build" }, response: { content: "All is well. ".repeat(60) } });
await mock.start();
process.on("disconnect", () => process.exit());
process.send?.("ready");
