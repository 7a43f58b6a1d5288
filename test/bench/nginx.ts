/** nginx as an origin, as a peer or as the TLS in front of an origin that has none. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/**
 * One worker in a network namespace; `server` is what stands in the block `http` in its
 * configuration, `pair` the certificate, left out: one that it signed itself.
 */
export async function startNginx(
  namespace: string,
  dir: string,
  server: string,
  pair?: { cert: string; key: string },
): Promise<ChildProcess> {
  mkdirSync(dir, { recursive: true });
  chmodSync(dir, 0o755);
  const certFile = join(dir, "cert.pem");
  const keyFile = join(dir, "key.pem");
  if (pair !== undefined) {
    writeFileSync(certFile, pair.cert);
    writeFileSync(keyFile, pair.key);
  } else
    await run("openssl", [
      ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"],
      ...["-subj", "/CN=bench", "-days", "2", "-keyout", keyFile, "-out", certFile],
    ]);
  writeFileSync(
    join(dir, "nginx.conf"),
    `daemon off; worker_processes 1; pid ${dir}/pid; error_log ${dir}/error.log;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 1000000; keepalive_timeout 60s;
  ssl_certificate ${certFile}; ssl_certificate_key ${keyFile}; ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache off; ssl_session_tickets off;
  client_body_temp_path ${dir}/a; proxy_temp_path ${dir}/b; fastcgi_temp_path ${dir}/c; uwsgi_temp_path ${dir}/d; scgi_temp_path ${dir}/e;
  ${server}
}
`,
  );
  const child = spawn("nsenter", [`--net=/run/netns/${namespace}`, "--", "nginx", "-c", join(dir, "nginx.conf")], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  await new Promise((done) => setTimeout(done, 500));
  if (child.exitCode !== null) throw new Error(`nginx ended with ${child.exitCode}`);
  return child;
}
