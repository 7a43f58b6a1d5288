/** Which bodies are text. */

const textTypes =
  /^application\/(?:[\w.-]+\+)?(?:json|xml|yaml|x-yaml|javascript|x-ndjson|jsonl|x-www-form-urlencoded|graphql|sql|toml)$/;

/** Types whose bytes are text that detectors can read. */
export function isText(type: string): boolean {
  return type.startsWith("text/") || textTypes.test(type);
}

export const formType = "application/x-www-form-urlencoded";
