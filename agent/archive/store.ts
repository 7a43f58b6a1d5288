/** Where old segments are kept: a directory, or a bucket that speaks S3. Nothing is ever written over with something else. */
import { createHash } from "node:crypto";
import { mkdirSync } from "node:fs";
import { open, rename } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { WeirError } from "../errors.ts";
import { Headers as HttpHeaders, type RequestHead } from "../wire/http/message.ts";
import { type SigningKey, signV4 } from "../wire/http/sigv4.ts";

export interface ArchiveStore {
  /** Where it is, as a person writes it. */
  readonly name: string;
  /** Resolves when it is kept. */
  put(path: string, bytes: Buffer): Promise<void>;
}

/** A bucket that takes longer for 64 MB is tried again at the next round. */
const putWithinMs = 120_000;
const answerShown = 300;

/** `DIR` or `s3://BUCKET/PREFIX`, with the credentials and the endpoint in AWS's usual variables. */
export function openArchive(text: string, env: NodeJS.ProcessEnv): ArchiveStore {
  if (!text.startsWith("s3://")) {
    if (/^[a-z0-9+]+:\/\//i.test(text))
      throw new WeirError("WEIR_USAGE", `--archive ${text}: a directory or s3://BUCKET/PREFIX is expected.`);
    return directory(resolve(text));
  }
  const [bucket = "", ...rest] = text.slice("s3://".length).split("/");
  if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(bucket))
    throw new WeirError("WEIR_USAGE", `--archive ${text}: ${bucket || "nothing"} is no bucket's name.`);
  return s3(bucket, rest.filter((part) => part !== "").join("/"), env);
}

function directory(dir: string): ArchiveStore {
  return {
    name: dir,
    async put(path, bytes) {
      const target = join(dir, path);
      mkdirSync(dirname(target), { recursive: true, mode: 0o700 });
      const file = await open(`${target}.new`, "w", 0o600);
      try {
        await file.writeFile(bytes);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(`${target}.new`, target);
      const folder = await open(dirname(target), "r");
      try {
        await folder.sync();
      } finally {
        await folder.close();
      }
    },
  };
}

function s3(bucket: string, prefix: string, env: NodeJS.ProcessEnv): ArchiveStore {
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey } = env;
  const region = env["AWS_REGION"] ?? env["AWS_DEFAULT_REGION"] ?? "us-east-1";
  if (!accessKeyId || !secretAccessKey)
    throw new WeirError("WEIR_USAGE", "--archive s3://…: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set.");
  const key: SigningKey = {
    accessKeyId,
    secretAccessKey,
    sessionToken: env["AWS_SESSION_TOKEN"] || null,
    region,
    service: "s3",
  };
  const endpoint = env["AWS_ENDPOINT_URL_S3"] || env["AWS_ENDPOINT_URL"] || `https://s3.${region}.amazonaws.com`;
  if (!URL.canParse(endpoint)) throw new WeirError("WEIR_USAGE", `AWS_ENDPOINT_URL ${endpoint} is no URL.`);
  const base = new URL(endpoint);
  return {
    name: `s3://${bucket}/${prefix}`,
    async put(path, bytes) {
      const parts = [bucket, ...prefix.split("/"), ...path.split("/")].filter((part) => part !== "");
      // By path: an endpoint of one's own seldom has a name for each bucket.
      const target = `${base.pathname.replace(/\/+$/, "")}/${parts.map(encodeSegment).join("/")}`;
      // The server holds what came against it.
      const checksum = createHash("sha256").update(bytes).digest("base64");
      const headers = new HttpHeaders(["x-amz-checksum-sha256", checksum]);
      const head: RequestHead = {
        method: "PUT",
        target,
        scheme: base.protocol === "http:" ? "http" : "https",
        authority: base.host,
        headers,
        version: "1.1",
        body: { kind: "length", bytes: bytes.length },
        raw: null,
      };
      signV4(head, bytes, key, Date.now());
      const fields: [string, string][] = [];
      for (let at = 0; at < headers.fields.length; at += 2)
        fields.push([headers.fields[at] as string, headers.fields[at + 1] as string]);
      const response = await fetch(new URL(target, base), {
        method: "PUT",
        headers: fields,
        body: new Uint8Array(bytes),
        redirect: "error",
        signal: AbortSignal.timeout(putWithinMs),
      });
      const said = await response.text();
      if (!response.ok)
        throw new WeirError(
          "WEIR_ARCHIVE",
          `${this.name} did not take ${path} (${response.status}): ${said.slice(0, answerShown).replace(/\s+/g, " ")}`,
        );
    },
  };
}

/** RFC 3986 unreserved; everything else in hexadecimal, as S3 signs it. */
function encodeSegment(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}
