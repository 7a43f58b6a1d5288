/** Loads build/weir.node and says what is in it. Only agent/kernel/native.ts and bpf.ts beside it call it. */
import { createRequire } from "node:module";
import { join } from "node:path";
import type { Endpoint } from "../../core/flow.ts";
import { WeirError } from "../../errors.ts";

/** Numbers of linux/bpf.h go through as they are: the logic is in bpf.ts, the addon only makes the calls. */
export interface Addon {
  bpfMapCreate(
    type: number,
    keyBytes: number,
    valueBytes: number,
    entriesMax: number,
    flags: number,
    name: string,
  ): number;
  bpfMapUpdate(fd: number, key: Uint8Array, value: Uint8Array): void;
  /** False when there is no such key. */
  bpfMapLookup(fd: number, key: Uint8Array, value: Uint8Array, take: boolean): boolean;
  bpfMapDelete(fd: number, key: Uint8Array): boolean;
  bpfProgLoad(type: number, attachType: number, instructions: Uint8Array, license: string, name: string): number;
  bpfLinkCreate(programFd: number, targetFd: number, attachType: number): number;
  bpfLinkDetach(fd: number): void;
  bpfPin(fd: number, path: string): void;
  bpfOpenPinned(path: string): number;
  mountBpf(path: string): void;
  unmount(path: string): void;

  queueOpen(
    queue: number,
    copyBytesMax: number,
    queueLengthMax: number,
    receiveBufferBytes: number,
    onPacket: (
      id: number,
      payload: Buffer,
      mark: number,
      uid: number,
      gid: number,
      inIface: number,
      outIface: number,
      hook: number,
    ) => void,
  ): object;
  queueVerdict(handle: object, id: number, accept: boolean, mark: number, upTo: boolean): void;
  queueCounters(handle: object): {
    received: number;
    accepted: number;
    dropped: number;
    overruns: number;
    verdictErrors: number;
  };
  queueClose(handle: object): void;

  sendRaw(family: 4 | 6, packet: Uint8Array, mark: number): void;
  socketMarked(family: 4 | 6, mark: number): number;
  connectMarked(family: 4 | 6, address: string, port: number, mark: number): number;
  tcpOptions(fd: number): void;
  setMark(fd: number, mark: number): void;
  originalDestination(fd: number): Endpoint | null;
  tcpOwner(
    family: 4 | 6,
    address: string,
    port: number,
    remoteAddress: string,
    remotePort: number,
  ): { uid: number; inode: number } | null;
  peerCredentials(fd: number): { pid: number; uid: number; gid: number };
  socketCookie(fd: number): bigint;
  netnsCookie(fd: number): bigint;
  listenInNamespace(path: string, family: 4 | 6, address: string, port: number): number;
  sendDatagram(path: string, message: Uint8Array): void;
  rulesGeneration(): number | null;
  watchRules(onChange: () => void): void;
  unwatchRules(): void;
  links(): string;
  closeFd(fd: number): void;
  endNow(code: number): never;
}

const path = join(import.meta.dirname, "../../../build/weir.node");
let loaded: Addon | null = null;

export function addon(): Addon {
  if (loaded !== null) return loaded;
  try {
    loaded = createRequire(import.meta.url)(path) as Addon;
  } catch (cause) {
    throw new WeirError(
      "WEIR_ADDON_MISSING",
      `The native addon ${path} could not be loaded; run scripts/build-native.`,
      {
        cause,
      },
    );
  }
  return loaded;
}
