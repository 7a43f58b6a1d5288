/** The variables by which runtimes and tools are told of certificate authorities. */

/** Each takes one file; most of them replace the built-in roots, so the file has to hold the system's and ours. */
export const trustVariables = [
  "SSL_CERT_FILE",
  "REQUESTS_CA_BUNDLE",
  "CURL_CA_BUNDLE",
  "GIT_SSL_CAINFO",
  "AWS_CA_BUNDLE",
  "PIP_CERT",
  "CARGO_HTTP_CAINFO",
  "DENO_CERT",
  "NODE_EXTRA_CA_CERTS",
  // npm and Yarn 1 read `cafile` in lower case alone.
  "npm_config_cafile",
  "YARN_HTTPS_CA_FILE_PATH",
  // gRPC's core (C++, Python, Ruby, PHP) has roots of its own.
  "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
  "HTTPLIB2_CA_CERTS",
  "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
  "BUNDLE_SSL_CA_CERT",
  "HEX_CACERTS_PATH",
  "PERL_LWP_SSL_CA_FILE",
  "NIX_SSL_CERT_FILE",
  "PGSSLROOTCERT",
] as const;

/**
 * libpq verifies in every sslmode once it finds roots, also servers on loopback that nobody intercepts and whose
 * certificate is their own: `require` would fail there, and `prefer` go on in plain text. So `weir run` leaves
 * PGSSLROOTCERT out where libpq, as its user has it, looks for no roots, or finds its own file extended.
 */
export function wantsLibpqRoots(sslmode: string | undefined, ownFile: boolean, bound: boolean): boolean {
  return ownFile ? !bound : sslmode === "verify-ca" || sslmode === "verify-full";
}

export function trustEnvironment(bundlePath: string): Record<string, string> {
  return Object.fromEntries(trustVariables.map((name) => [name, bundlePath]));
}
