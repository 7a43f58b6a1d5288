"""Runs Sigma rules over OCSF events: argv[1:] are the rules, stdin the events. Prints which events each rule matches.

pySigma reads the rules and its SQLite backend makes queries of them; SQLite answers them. So what is tested is the rule
as others read it, not an evaluation of our own.
"""
import json
import os
import sqlite3
import sys

from sigma.backends.sqlite import sqliteBackend
from sigma.collection import SigmaCollection


def flat(value, path=""):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flat(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        yield path, json.dumps(value)
    else:
        # A Sigma boolean is written as 0 or 1 in SQL.
        yield path, int(value) if isinstance(value, bool) else value


events = [dict(flat(json.loads(line))) for line in sys.stdin if line.strip()]
columns = sorted({key for event in events for key in event})
database = sqlite3.connect(":memory:")
names = ", ".join(f'"{column}"' for column in columns)
database.execute(f"CREATE TABLE logs (number INTEGER, {names})")
for number, event in enumerate(events):
    marks = ", ".join("?" for _ in columns)
    database.execute(f"INSERT INTO logs VALUES (?, {marks})", [number, *(event.get(column) for column in columns)])

found = {}
for path in sys.argv[1:]:
    rules = SigmaCollection.from_yaml(open(path, encoding="utf8").read())
    assert not rules.errors, rules.errors
    [query] = sqliteBackend().convert(rules)
    query = query.replace("<TABLE_NAME>", "logs").replace("SELECT *", "SELECT number")
    found[os.path.basename(path)] = [row[0] for row in database.execute(query)]
json.dump(found, sys.stdout)
