#!/usr/bin/env python3
"""Writes revisions.json: names of revisions and sums of files, computed without the code under test.

The names are part of the protocol between operator and engine of different versions: an entry is never edited, only added."""

import datetime
import hashlib
import json
import pathlib
import tomllib

PLACE = """[tier2]
endpoint = "https://s3.test"
region = "eu"
bucket = "acme"
prefix = "prod/orders/"
addressing = "Path"
"""

# What an operator makes of its user's file.
REVISIONS = {
    "nothing": "",
    "an empty table": "[log]\n",
    "empty shared tables": "[tier0]\n[tier2]\n",
    "two keys": '[log]\nlevel = "info"\n[tier0]\ncluster_max_bytes = 17179869184\n',
    "a bucket": PLACE,
    "a bucket and keys": '[segment]\nmax_age = "1h"\n' + PLACE + 'claim_check = "5s"\nchecksum = "MD5"\n',
    "every type": 'a = "q\\"\\\\\\n\\t"\nb = -1\nc = 1.5\nd = true\ne = 2026-11-30T04:00:00Z\nf = [1, "x", {g = 2}]\n[h.i]\nj = 0\n',
}

# What it adds for a pod.
OWN = {
    "operator": {"revision": None},
    "cluster": {"id": "0192f0aa-0000-7000-8000-000000000001", "name": "orders", "namespace": "prod"},
    "node": {"name": "orders-0"},
    "listen": {"admin_address": "[::]:7421"},
    "tls": {"directory": "/etc/aof2/tls", "client_name": "operator.aof2.dev"},
    "storage": {"directory": "/var/lib/aof2", "capacity_bytes": 8589934592},
    "tier0": {"instance_quota_bytes": 4294967296},
}
OF_TIER2 = {"credentials_directory": "/etc/aof2/s3-credentials", "ca_file": "/etc/aof2/s3-ca/ca.crt"}


def canonical(value):
    if isinstance(value, dict):
        return "{" + "".join(f"{canonical(key)}:{canonical(value[key])}," for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + "".join(canonical(item) + "," for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return "f" + repr(value)
    if isinstance(value, datetime.datetime):
        return "t" + value.isoformat().replace("+00:00", "Z")
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"' + "".join(escapes.get(char, char) for char in value) + '"'


def toml(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime.datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return json.dumps(value)


def pod_file(table, revision):
    table = {name: dict(value) if isinstance(value, dict) else value for name, value in table.items()}
    own = {name: dict(value) for name, value in OWN.items()}
    own["operator"]["revision"] = revision
    if table.get("tier2"):
        own["tier2"] = OF_TIER2
    for name, keys in own.items():
        table.setdefault(name, {}).update(keys)
    plain = {name: value for name, value in table.items() if not isinstance(value, dict)}
    lines = [f"{name} = {toml(value)}" for name, value in plain.items()]
    for name, value in table.items():
        if isinstance(value, dict):
            lines.append(f"[{name}]")
            lines += [f"{key} = {toml(inner)}" for key, inner in value.items()]
    return "\n".join(lines) + "\n"


def entries():
    for name, text in REVISIONS.items():
        table = tomllib.loads(text)
        revision = hashlib.sha256(canonical(table).encode()).hexdigest()[:8]
        file = pod_file(table, revision)
        yield {"name": name, "text": text, "revision": revision, "file": file,
               "sum": hashlib.sha256(file.encode()).hexdigest()}


pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(list(entries()), indent=1) + "\n")
