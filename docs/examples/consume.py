#!/usr/bin/env python3
"""Reads Weir's record from Kafka and prints one JSON line an entry.

    pip install confluent-kafka fastavro
    consume.py --kafka broker:9092 [--topic weir.sessions.v1] [--group NAME] [--registry URL] [--once]
               [--set security.protocol=SASL_SSL --set sasl.mechanism=SCRAM-SHA-512 …]

Entries are Avro. Without a schema registry each has Avro's single-object encoding: C3 01, the schema's CRC-64-AVRO
fingerprint, the entry; the schemas are the .avsc files beside this script. With one it is the Confluent wire format: 0, the
schema's id, the entry. Either way the bytes behind that are what the chain is made of: the link of an entry is the
SHA-256 of them, and each entry holds the link of its session's entry before it. This script follows that chain, drops
what comes twice, and says on stderr where a chain does not hold; it exits 1 when one did not.
"""
import argparse
import base64
import hashlib
import io
import json
import pathlib
import struct
import sys
import urllib.request

import confluent_kafka
import fastavro
import fastavro.schema

NO_LINK = bytes(32)
HERE = pathlib.Path(__file__).parent


class Schemas:
    """Writers' schemas by fingerprint or by the registry's id; entries are read as the newest schema has them."""

    def __init__(self, registry):
        self.registry = registry
        self.by_id = {}
        self.by_fingerprint = {}
        paths = sorted(HERE.glob("weir-entry-*.avsc"))
        for path in paths:
            text = path.read_text()
            schema = json.loads(text)
            form = fastavro.schema.to_parsing_canonical_form(schema)
            fingerprint = fastavro.schema.fingerprint(form, "CRC-64-AVRO")
            # It is given as hexadecimal, least significant byte first, as the encoding has it.
            self.by_fingerprint[bytes.fromhex(fingerprint)] = fastavro.parse_schema(schema)
            self.newest = fastavro.parse_schema(schema)

    def split(self, value):
        """The writer's schema and the entry's own bytes."""
        if value[:2] == b"\xc3\x01":
            return self.by_fingerprint[value[2:10]], value[10:]
        if value[:1] == b"\x00" and self.registry:
            (number,) = struct.unpack(">I", value[1:5])
            if number not in self.by_id:
                with urllib.request.urlopen(f"{self.registry}/schemas/ids/{number}", timeout=10) as answer:
                    self.by_id[number] = fastavro.parse_schema(json.loads(json.load(answer)["schema"]))
            return self.by_id[number], value[5:]
        raise ValueError("framed in neither way")


class Chains:
    """Each session's last entry: its number and its link."""

    def __init__(self):
        self.tails = {}
        self.problems = 0

    def follows(self, entry, payload):
        """False for an entry that came before."""
        name = (entry["agent"], entry["session"])
        seq, link = self.tails.get(name, (-1, NO_LINK))
        if entry["seq"] <= seq:
            return False
        if entry["seq"] != seq + 1 or entry["sessionPrevious"] != link:
            self.problems += 1
            print(f"{name[1]} does not go on from its entry {seq} at entry {entry['seq']}", file=sys.stderr)
        self.tails[name] = (entry["seq"], hashlib.sha256(payload).digest())
        return True


def plain(value):
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(type(value))


def main():
    words = argparse.ArgumentParser()
    words.add_argument("--kafka", required=True)
    words.add_argument("--topic", default="weir.sessions.v1")
    words.add_argument("--group", default="weir-example")
    words.add_argument("--registry")
    words.add_argument("--once", action="store_true", help="end where the topic ends now")
    words.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of librdkafka")
    args = words.parse_args()

    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": args.kafka,
            "group.id": args.group,
            "auto.offset.reset": "earliest",
            # Committed when a line is printed, not when it is fetched.
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            **dict(setting.split("=", 1) for setting in args.set),
        }
    )
    schemas, chains = Schemas(args.registry), Chains()
    consumer.subscribe([args.topic])
    partitions = len(consumer.list_topics(args.topic, timeout=30).topics[args.topic].partitions)
    ended = set()
    try:
        while not (args.once and len(ended) == partitions):
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error():
                if message.error().code() != confluent_kafka.KafkaError._PARTITION_EOF:
                    raise confluent_kafka.KafkaException(message.error())
                ended.add(message.partition())
                continue
            try:
                writer, payload = schemas.split(message.value())
                entry = fastavro.schemaless_reader(io.BytesIO(payload), writer, schemas.newest, return_record_name=True)
            except (KeyError, ValueError, EOFError) as error:
                print(f"{message.topic()} {message.partition()} {message.offset()}: {error!r}", file=sys.stderr)
                chains.problems += 1
                continue
            # weir.verdicts.v1 holds some of a session's entries, so only the whole record has its chain.
            if args.topic == "weir.sessions.v1" and not chains.follows(entry, payload):
                continue
            kind, fields = entry.pop("body")
            line = {**entry, "type": kind.removeprefix("weir.v1."), "fields": fields}
            print(json.dumps(line, default=plain, ensure_ascii=True), flush=True)
            consumer.commit(message, asynchronous=True)
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()
    return 1 if chains.problems else 0


if __name__ == "__main__":
    sys.exit(main())
