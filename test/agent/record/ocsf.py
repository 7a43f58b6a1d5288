"""Validates OCSF events (JSON lines on stdin) against the schema that a package carries; prints a JSON array of errors.

argv[1]: the schema's version. Attributes that this version does not know are left out by argv[2:] (dotted paths), and
profiles it does not know are left out of the schema that is built.
"""
import json
import sys
from collections import OrderedDict

import jsonschema
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

version, newer = sys.argv[1], sys.argv[2:]
raw = get_ocsf_schema(version=version)
schemas = OcsfJsonSchemaEmbedded(raw)
known = set(raw["profiles"] if "profiles" in raw else [])
validators = OrderedDict()
errors = []


def drop(value, path):
    head, *rest = path
    if isinstance(value, list):
        for one in value:
            drop(one, path)
    elif isinstance(value, dict):
        if rest:
            drop(value.get(head), rest)
        else:
            value.pop(head, None)


def validator(uid, profiles):
    key = (uid, profiles)
    if key not in validators:
        name = schemas.lookup_class_name_from_uid(uid)
        schema = schemas.get_class_schema(name, list(profiles))
        validators[key] = jsonschema.Draft202012Validator(schema)
    return validators[key]


count = 0
for number, line in enumerate(sys.stdin, 1):
    event = json.loads(line)
    for path in newer:
        drop(event, path.split("."))
    event["metadata"]["version"] = version
    profiles = tuple(p for p in event["metadata"]["profiles"] if not known or p in known)
    for error in validator(event["class_uid"], profiles).iter_errors(event):
        place = ".".join(str(part) for part in error.absolute_path)
        errors.append(f"line {number} ({event['class_uid']}): {place}: {error.message[:300]}")
    count += 1
json.dump({"events": count, "errors": errors, "profiles": sorted(known)}, sys.stdout)
