/** The variables by which common runtimes find certificate authorities; values are a bundle with the system's roots and ours. */
export function trustEnvironment(bundlePath: string): Record<string, string> {
  const names = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "DENO_CERT",
    "NODE_EXTRA_CA_CERTS",
    "PGSSLROOTCERT",
  ];
  return Object.fromEntries(names.map((name) => [name, bundlePath]));
}
