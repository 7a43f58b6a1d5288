/** A probe server with a leaf of the authority in `argv[2]`, in a process (and so a network namespace) of its own. */
import { openAuthority } from "../../agent/tls/authority.ts";
import { probeNames, startProbeServer } from "../../agent/trust/probe-server.ts";

const authority = await openAuthority(process.argv[2] as string);
const server = await startProbeServer(authority.leafFor(probeNames).context);
process.stdout.write(`${server.port}\n`);
