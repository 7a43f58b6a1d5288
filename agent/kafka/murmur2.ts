/**
 * The hash that Kafka's own clients choose a key's partition with: murmur2, 32 bits, seed 9747b28c (Austin Appleby's,
 * public domain), without its sign. Both libraries and every other client then agree where a session is.
 */
export function murmur2(key: Buffer): number {
  const mix = 0x5bd1e995;
  let hash = 0x9747b28c ^ key.length;
  const whole = key.length & ~3;
  for (let at = 0; at < whole; at += 4) {
    let word = Math.imul(key.readInt32LE(at), mix);
    word = Math.imul(word ^ (word >>> 24), mix);
    hash = Math.imul(hash, mix) ^ word;
  }
  const left = key.length - whole;
  if (left > 2) hash ^= (key[whole + 2] as number) << 16;
  if (left > 1) hash ^= (key[whole + 1] as number) << 8;
  if (left > 0) hash = Math.imul(hash ^ (key[whole] as number), mix);
  hash = Math.imul(hash ^ (hash >>> 13), mix);
  return (hash ^ (hash >>> 15)) & 0x7fffffff;
}

/** Keys whose hash is remembered; a busy agent has some hundred sessions open. */
const keysMax = 8_192;

/** `murmur2` of texts; the same one again costs a look-up. */
export function keyHasher(): (key: string) => number {
  const known = new Map<string, number>();
  return (key) => {
    let hash = known.get(key);
    if (hash === undefined) {
      hash = murmur2(Buffer.from(key));
      if (known.size >= keysMax) known.clear();
      known.set(key, hash);
    }
    return hash;
  };
}
