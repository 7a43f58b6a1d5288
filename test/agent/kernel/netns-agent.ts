/**
 * The agent's part of the interception tests, run inside a network namespace: listens, intercepts, and answers each line
 * on stdin with one on stdout. Each accepted flow is answered with a JSON line of what `lookup` said.
 */
import { createInterface } from "node:readline";
import { dialUpstream } from "../../../agent/accept/dial.ts";
import { startListeners } from "../../../agent/accept/listener.ts";
import { startInterception } from "../../../agent/kernel/interception.ts";

const options = JSON.parse(process.argv[2]!);
const say = (value: unknown): void => void process.stdout.write(`${JSON.stringify(value)}\n`);
const lookupsNs: number[] = [];
let heard: Promise<Buffer | string> = Promise.resolve("");
const listeners = await startListeners({
  bridges: options.scope.kind === "host",
  onFull: (notice) => say({ notice }),
  onFlow: (arrival) => {
    const before = process.hrtime.bigint();
    const origin = interception.lookup(arrival);
    lookupsNs.push(Number(process.hrtime.bigint() - before));
    const socket = arrival.socket();
    if (options.echo === true) {
      socket.pipe(socket);
      return;
    }
    socket.end(`${JSON.stringify(origin)}\n`);
    socket.resume();
  },
});
const startedNs = process.hrtime.bigint();
const interception = await startInterception({
  stateDir: "/tmp",
  ...options,
  ports: listeners.ports,
  ...(listeners.bridgePorts === null ? {} : { bridgePorts: listeners.bridgePorts }),
  onRefused: (refused) => say({ refused }),
  onEnded: (ended) => say({ ended }),
  onNotice: (notice) => say({ notice }),
});
say({ ready: Number(process.hrtime.bigint() - startedNs) / 1e6, mark: interception.mark });

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  try {
    if (request.do === "run") say({ ok: { cgroup: (await interception.createRun(request)).cgroup } });
    else if (request.do === "targets") {
      interception.setTargets(request.targets, request.egress);
      say({ ok: true });
    } else if (request.do === "dial") {
      const socket = await dialUpstream(interception, request.destination);
      socket.on("data", (data) => {
        say({ ok: data.toString() });
        socket.destroy();
      });
    } else if (request.do === "open") {
      const socket = await dialUpstream(interception, request.destination);
      heard = new Promise((done) => socket.once("data", done).once("close", () => done("closed")));
      say({ ok: true });
    } else if (request.do === "heard") say({ ok: String(await heard) });
    else if (request.do === "hostname") say({ ok: interception.hostnameOf(request.address) });
    else if (request.do === "stats") say({ ok: { ...interception.stats(), lookupsNs } });
    else if (request.do === "close") {
      await interception.close();
      await listeners.close();
      say({ ok: true });
      break;
    }
  } catch (error) {
    say({ error: String(error), code: (error as { code?: string }).code });
  }
}
process.exit(0);
