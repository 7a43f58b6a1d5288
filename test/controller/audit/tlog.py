"""Holds a log that Weir wrote against aics-tlog: one JSON object on stdin, one JSON array of findings on stdout."""
import base64
import json
import sys

import aics_tlog as tlog

asked = json.load(sys.stdin)
findings = []


def check(name, good):
    findings.append([name, bool(good)])


def raw(text):
    return base64.b64decode(text)


# Trees of every size: roots and both kinds of proofs, made by one and verified by the other.
leaves = [raw(leaf) for leaf in asked["leaves"]]
tree = tlog.MerkleTree(leaves)
for size, root in enumerate(asked["roots"]):
    check(f"root {size}", tree.root(size) == raw(root))
for one in asked["inclusion"]:
    index, size, proof = one["index"], one["size"], [raw(hash) for hash in one["proof"]]
    check(f"inclusion {index} of {size}", tree.inclusion_proof(index, size) == proof)
    check(
        f"inclusion {index} of {size} verifies",
        tlog.verify_inclusion(tlog.leaf_hash(leaves[index]), index, size, proof, tree.root(size)),
    )
for one in asked["consistency"]:
    old, size, proof = one["old"], one["size"], [raw(hash) for hash in one["proof"]]
    check(f"consistency {old} to {size}", tree.consistency_proof(old, size) == proof)

# A log as it stands on the disk.
key = tlog.parse_vkey(asked["logKey"])
witness = tlog.parse_vkey(asked["witnessKey"])
note = tlog.parse_note(open(f"{asked['dir']}/checkpoint.witnessed", "rb").read())
check("the log's signature", tlog.verify_note(note, [key]))
checkpoint = tlog.parse_checkpoint(note.text)
size, root = checkpoint.size, checkpoint.root
blobs = [line.signature for line in note.signatures if line.key_id == witness.key_id]
check(
    "the witness's cosignature",
    len(blobs) == 1
    and tlog.verify_cosignature(blobs[0], witness.name, witness.public_key, checkpoint.origin, size, root),
)
check("the origin", checkpoint.origin == key.name)
reader = tlog.tiles.FileSystemTileReader(asked["dir"])
check("the root out of the tiles", tlog.tree_root_from_tiles(reader, size) == root)
check("every tile and entry", tlog.audit_tiles(reader, size, root) is not None)
for index in asked["indexes"]:
    proof = tlog.inclusion_proof_from_tiles(reader, index, size)
    entry = tlog.read_entry(reader, index, size)
    check(f"leaf {index} is in", tlog.verify_inclusion(tlog.leaf_hash(entry), index, size, proof, root))
    check(f"leaf {index} is a head", json.loads(entry)["agent"] == asked["agent"])

# And a log that aics-tlog writes, for Weir to read.
store = tlog.DirectoryTileStore(asked["theirs"], fsync=False)
writer = tlog.IncrementalTileWriter(store)
writer.append(leaves)
json.dump({"findings": findings, "root": base64.b64encode(writer.root()).decode()}, sys.stdout)
