/** `weir trust`: puts Weir's certificate authority into the system's store, and takes exactly that away again. */
import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { WeirError } from "../errors.ts";
import type { CommandIo } from "./io.ts";

export const help = `weir trust install|remove|status [--state DIR] [--root DIR]

  install   adds the authority of this state directory to the system's store (Debian, Ubuntu), as
            /usr/local/share/ca-certificates/weir-….crt, and runs update-ca-certificates
  remove    takes it away again; nothing else is touched
  status    exit code 0 when it is installed, 1 when it is not

  --state DIR   state directory (default /var/lib/weir); the authority is made at the first \`weir up\`
  --root DIR    another root directory than /, for images and tests

What runs under \`weir run\` needs none of this: it gets the authority by its environment. Programs with a store of
their own (Java, browsers) do not look at the system's.
`;

const storeDir = "usr/local/share/ca-certificates";
const bundle = "etc/ssl/certs/ca-certificates.crt";

export async function run(args: readonly string[], io: CommandIo): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      state: { type: "string" },
      root: { type: "string", default: "/" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    io.stdout.write(help);
    return 0;
  }
  const [verb, ...rest] = positionals;
  if (rest.length > 0 || (verb !== "install" && verb !== "remove" && verb !== "status"))
    throw new WeirError("WEIR_USAGE", help);
  const pem = authority(join(values.state ?? io.stateDir, "ca/ca.pem"));
  const path = join(values.root, storeDir, fileName(pem));
  const name = new X509Certificate(pem).subject.replace(/^CN=/, "");
  if (verb === "status") {
    const trusted = existsSync(path) && isInBundle(values.root, pem);
    io.stdout.write(`${name} is ${trusted ? "" : "not "}in the system's store (${path})\n`);
    return trusted ? 0 : 1;
  }
  if (verb === "install" ? existsSync(path) && isInBundle(values.root, pem) : !existsSync(path)) {
    io.stdout.write(`${name}: nothing to do\n`);
    return 0;
  }
  const undo = verb === "install" ? () => rmSync(path, { force: true }) : () => write(path, pem);
  try {
    if (verb === "install") write(path, pem);
    else rmSync(path);
    updateStore(values.root);
  } catch (cause) {
    undo();
    const reason = cause instanceof Error ? cause.message : String(cause);
    const root = process.getuid?.() === 0 ? "" : " This needs root: sudo weir trust.";
    throw new WeirError(root === "" ? "WEIR_CONFIG_INVALID" : "WEIR_NOT_ROOT", `${reason}.${root}`, { cause });
  }
  io.stdout.write(`${name}: ${verb === "install" ? "installed as" : "removed from"} ${path}\n`);
  return 0;
}

function authority(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new WeirError(
      "WEIR_USAGE",
      `${path}: there is no authority. Run \`weir up\` once, or name its --state directory.`,
      { cause },
    );
  }
}

/** Named by the key's digest, so that agents with different state directories do not take each other's away. */
function fileName(pem: string): string {
  return `weir-${new X509Certificate(pem).fingerprint256.replaceAll(":", "").slice(0, 16).toLowerCase()}.crt`;
}

function write(path: string, pem: string): void {
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(`${path}.new`, pem, { mode: 0o644 });
  renameSync(`${path}.new`, path);
}

function isInBundle(root: string, pem: string): boolean {
  try {
    return readFileSync(join(root, bundle), "utf8").includes(pem.trim());
  } catch {
    return false;
  }
}

/** Debian's own tool. It reads hooks of the host, so for another root it is told every directory. */
function updateStore(root: string): void {
  const at = (path: string): string => join(root, path);
  const elsewhere = [
    ...["--certsconf", at("etc/ca-certificates.conf")],
    ...["--certsdir", at("usr/share/ca-certificates")],
    ...["--localcertsdir", at(storeDir)],
    ...["--etccertsdir", at("etc/ssl/certs")],
    ...["--hooksdir", at("etc/ca-certificates/update.d")],
  ];
  execFileSync("update-ca-certificates", root === "/" ? [] : elsewhere, { stdio: ["ignore", "ignore", "pipe"] });
  // It leaves a dangling link when a certificate goes, unless it was asked for a fresh start.
  for (const name of readdirSync(at("etc/ssl/certs"))) {
    if (/^weir-[0-9a-f]{16}\.pem$/.test(name) && !existsSync(join(at("etc/ssl/certs"), name)))
      rmSync(join(at("etc/ssl/certs"), name), { force: true });
  }
}
