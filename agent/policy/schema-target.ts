/** The JSON Schema of a target, its certificate check and its credential. */
import { protocols } from "./words.ts";

const text = { type: "string", minLength: 1 };

/** Vault's own token comes from elsewhere, so the schema has an end. */
const secret = (description: string, withVault = true) => ({
  description,
  type: "object",
  additionalProperties: false,
  minProperties: 1,
  maxProperties: 1,
  expected: withVault ? "exactly one of file, env, exec and vault" : "exactly one of file, env and exec",
  properties: {
    file: {
      description: "Path of a file whose content, without the last line end, is the secret.",
      type: "string",
      minLength: 1,
    },
    env: {
      description: "Name of an environment variable of the agent.",
      type: "string",
      pattern: "^[A-Za-z_][A-Za-z0-9_]*$",
      expected: "the name of an environment variable",
    },
    exec: {
      description: "Command whose output is the secret; run without a shell.",
      type: "array",
      minItems: 1,
      items: { type: "string" },
    },
    ...(withVault ? { vault } : {}),
  },
});

const vault: Record<string, unknown> = {
  description: "A field of a secret in Vault's KV version 2 engine.",
  type: "object",
  additionalProperties: false,
  required: ["address", "mount", "path", "field", "token"],
  properties: {
    address: {
      description: "https://vault.internal:8200",
      type: "string",
      pattern: "^https?://[^\\s/?#@]+/?$",
      expected: "an address like https://vault.internal:8200",
    },
    mount: { description: "Where the engine is mounted: secret.", ...text },
    path: { description: "Path of the secret below the mount.", ...text },
    field: { description: "Key of the value in the secret.", ...text },
    token: secret("Where the token for Vault comes from.", false),
  },
};

const named = (what: string) => ({
  description: `The secret is put into this ${what}; what the client sent there is taken out.`,
  type: "object",
  additionalProperties: false,
  required: ["name", "value"],
  properties: { name: { ...text, maxLength: 128 }, value: secret("Where the value comes from.") },
});

const credential = {
  description:
    "What Weir uses upstream in place of the client's own. postgres: user, password, clientPassword. Over HTTP: one of bearer, header, query, basic and sigv4.",
  type: "object",
  additionalProperties: false,
  minProperties: 1,
  expected: "a credential",
  properties: {
    user: text,
    password: secret("Where the password comes from; none: a login that needs none, for example by certificate."),
    clientPassword: secret(
      "What the client has to prove (SCRAM) before the credential is used; none: its process is the proof.",
    ),
    bearer: secret("Authorization: Bearer …"),
    header: named("header"),
    query: named("parameter of the query"),
    basic: {
      description: "Authorization: Basic …",
      type: "object",
      additionalProperties: false,
      required: ["user", "password"],
      properties: { user: text, password: secret("Where the password comes from.") },
    },
    sigv4: {
      description: "AWS Signature Version 4; a request that the client signed is signed again.",
      type: "object",
      additionalProperties: false,
      required: ["accessKeyId", "secretAccessKey", "region", "service"],
      properties: {
        accessKeyId: secret("Where the access key id comes from."),
        secretAccessKey: secret("Where the secret access key comes from."),
        sessionToken: secret("Where the session token of temporary keys comes from."),
        region: text,
        service: { description: "For example bedrock or s3.", ...text },
      },
    },
  },
};

export const target = {
  description: "A named destination.",
  type: "object",
  additionalProperties: false,
  required: ["protocol", "hosts"],
  properties: {
    protocol: {
      description:
        "postgres; http (any API over HTTP); llm, or one provider of it; mcp; grpc. opaque is let through undecoded.",
      enum: [...protocols],
    },
    hosts: {
      description:
        "Names, *.suffixes, addresses, networks (10.0.0.0/8), or any. A name wins over a network, a longer prefix over a shorter, all over any.",
      type: ["string", "array"],
      minLength: 1,
      items: { type: "string", minLength: 1 },
      minItems: 1,
    },
    ports: {
      description:
        "Default: 5432 for postgres; 80 and 443 for http and mcp (with a credential only 443); 443 for llm and grpc; 11434 and 443 for ollama. opaque has to name them.",
      type: ["integer", "array"],
      minimum: 1,
      maximum: 65535,
      minItems: 1,
      items: { type: "integer", minimum: 1, maximum: 65535, expected: "a port from 1 to 65535" },
      expected: "a port from 1 to 65535, or a list of them",
    },
    tls: {
      description: "How the server's certificate is verified.",
      type: "object",
      additionalProperties: false,
      properties: {
        verify: {
          description:
            "full (default): chain and name. ca: chain only. first-use: pinned at first sight, a change is refused. none: no check.",
          enum: ["full", "ca", "first-use", "none"],
        },
        ca: { description: "Path of a PEM bundle that replaces the system's roots.", type: "string", minLength: 1 },
        cert: {
          description: "Path of the client certificate (PEM) for mutual TLS; needs key.",
          type: "string",
          minLength: 1,
        },
        key: { description: "Path of the private key of cert.", type: "string", minLength: 1 },
        pinned: {
          description:
            "What becomes of a client that refuses Weir's certificate twice in a row, over HTTP. deny (default): it is told no more than that. splice: its connections to the same name pass unread: no rule on requests, no mask, no credential holds there.",
          enum: ["deny", "splice"],
        },
        serverName: {
          description: "The name to verify instead of the one the client used.",
          type: "string",
          minLength: 1,
        },
      },
    },
    proxy: {
      description:
        "proxy.internal:3128: the HTTP proxy that is asked (CONNECT) for a tunnel to the server, where the network lets nothing out but through one.",
      type: "string",
      pattern: "^(?:[A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5}$",
      expected: "a host and a port, like proxy.internal:3128",
    },
    credential,
    grpc: {
      description:
        "For protocol grpc: what says what messages are, so that rules and masks see them as JSON. Without it a call is known by its service and method.",
      type: "object",
      additionalProperties: false,
      minProperties: 1,
      maxProperties: 1,
      expected: "either descriptors or reflection",
      properties: {
        descriptors: {
          description:
            "Path of a FileDescriptorSet: protoc --include_imports --descriptor_set_out=FILE, or buf build -o.",
          ...text,
        },
        reflection: { description: "The server is asked, by gRPC's server reflection.", enum: [true] },
      },
    },
  },
};
