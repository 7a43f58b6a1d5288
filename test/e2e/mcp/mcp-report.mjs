/**
 * What the MCP client programs share: calls in the order of the arguments, one JSON line for each.
 *
 *     tools | resources | templates | prompts | ping      lists, names and all
 *     call NAME JSON     a tool; `progress NAME JSON` the same with its progress notifications
 *     read URI | prompt NAME JSON | complete NAME ARGUMENT VALUE
 *     info               what the server said of itself
 *     wait MS            notifications that came meanwhile
 */

const words = process.argv.slice(2);
const next = () => words.shift();

/** `client` has the methods that both SDKs have; `options` go with every request. */
export async function report(client, { notifications = [], options = {} } = {}) {
  while (words.length > 0) {
    const word = next();
    const call = { call: word, ...argumentsOf(word) };
    try {
      write({ ...call, ok: true, result: await run(client, call, notifications, options) });
    } catch (error) {
      write({ ...call, ok: false, error: described(error) });
    }
  }
}

/** The server's address, the first argument. */
export function address() {
  return new URL(next());
}

/** `--name value` before the first call. */
export function flag(name, otherwise) {
  const at = words.indexOf(`--${name}`);
  return at < 0 ? otherwise : words.splice(at, 2)[1];
}

export function write(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

export function described(error) {
  return {
    type: error.constructor?.name ?? "unknown",
    code: error.code ?? null,
    message: String(error.message),
    data: error.data ?? null,
  };
}

function argumentsOf(word) {
  switch (word) {
    case "call":
    case "progress":
    case "prompt":
      return { name: next(), arguments: JSON.parse(next()) };
    case "read":
      return { uri: next() };
    case "complete":
      return { name: next(), argument: next(), value: next() };
    case "wait":
      return { ms: Number(next()) };
    default:
      return {};
  }
}

async function run(client, call, notifications, options) {
  switch (call.call) {
    case "info":
      return {
        server: client.getServerVersion(),
        capabilities: Object.keys(client.getServerCapabilities() ?? {}).sort(),
        instructions: client.getInstructions() ?? null,
      };
    case "ping":
      return client.ping(options);
    case "tools":
      return (await client.listTools({}, options)).tools;
    case "resources":
      return (await client.listResources({}, options)).resources;
    case "templates":
      return (await client.listResourceTemplates({}, options)).resourceTemplates;
    case "prompts":
      return (await client.listPrompts({}, options)).prompts;
    case "call":
      return callTool(client, call, options);
    case "progress": {
      const seen = [];
      const result = await callTool(client, call, {
        ...options,
        onprogress: ({ progress, message }) => seen.push({ progress, message: message ?? null }),
        resetTimeoutOnProgress: true,
      });
      return { result, seen };
    }
    case "read":
      return client.readResource({ uri: call.uri }, options);
    case "prompt":
      return client.getPrompt({ name: call.name, arguments: call.arguments }, options);
    case "complete":
      return client.complete(
        { ref: { type: "ref/prompt", name: call.name }, argument: { name: call.argument, value: call.value } },
        options,
      );
    case "wait":
      await new Promise((done) => setTimeout(done, call.ms));
      return notifications.splice(0);
    default:
      throw new Error(`no call ${call.call}`);
  }
}

/** The first SDK takes a schema between the two, the second one does not. */
function callTool(client, { name, arguments: given }, options) {
  const params = { name, arguments: given };
  return client.callTool.length >= 3 || client.isFirstSdk
    ? client.callTool(params, undefined, options)
    : client.callTool(params, options);
}
