#!/usr/bin/env python3
"""Writes golden/v0/*.hex: a second implementation of the stored formats, from the tables in ../src/*.md alone.

Pure standard library. Run it after a change of the draft: `python3 golden/write.py`. Released files are never edited.
"""
import json
import pathlib

OUT = pathlib.Path(__file__).parent / "v0"


def table(polynomial):
    rows = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (polynomial if value & 1 else 0)
        rows.append(value)
    return rows


CRC32C = table(0x82F63B78)
CRC64NVME = table(0x9A6C9329AC4BC9B5)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def crc64nvme(data):
    crc = 0xFFFFFFFFFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ CRC64NVME[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFFFFFFFFFF


assert crc32c(b"123456789") == 0xE3069283
assert crc64nvme(b"123456789") == 0xAE8B14860A799888


def le(*parts):
    """Concatenates (width, value) pairs, little-endian, and byte strings."""
    out = b""
    for part in parts:
        out += part if isinstance(part, bytes) else (part[1] & (1 << part[0] * 8) - 1).to_bytes(part[0], "little")
    return out


def block(*parts, size=4096):
    body = le(*parts)
    body += bytes(size - 4 - len(body))
    return body + le((4, crc32c(body)))


def stream_name(name):
    return le((1, len(name)), name.encode().ljust(63, b"\0"))


CLUSTER = bytes(range(0x10, 0x20))
STREAM = bytes(range(0x20, 0x30))
NODE = bytes(range(0x30, 0x40))
VOLUME = bytes(range(0x40, 0x50))
STREAM_SALT = 0x0102030405060708
FILE_SALT = 0x1112131415161718
SALT = le((8, STREAM_SALT))
NANOS = 1764043200123456789
NAME = "orders-eu-1"


def batch(kind, count, base, prev_chain, producer, body, durable_upto):
    head = le(b"RB2A", (2, 0), (1, kind), (1, 0), (4, len(body)), (4, count), (8, base), (4, 7), (4, prev_chain),
              (8, producer[0]), (8, producer[1]), (8, NANOS), (8, durable_upto), (4, crc32c(body)))
    chain = crc32c(SALT + head)
    return head + le((4, chain)) + body, chain


def record(payload):
    return le((4, len(payload)), payload)


RECORDS, RECORDS_CHAIN = batch(0, 3, 100, 0xA1B2C3D4, (0x5566778899AABBCC, 41),
                               record(b"") + record(b"hello") + record(bytes(range(256)) * 2), 99)
GAP, GAP_CHAIN = batch(1, 0, 103, RECORDS_CHAIN, (0, 0), le((8, 200), (2, 1), bytes(6)), 103)

SEGMENT_HEADER = block(b"AOF2SEGM", (2, 0), (2, 0), (4, 7), CLUSTER, STREAM, SALT, (8, 12), (8, 100), (8, NANOS),
                       (4, 0xA1B2C3D4), stream_name(NAME))
SEGMENT = SEGMENT_HEADER + RECORDS + GAP
SEGMENT_SEAL = block(b"AOF2SEAL", (2, 0), (2, 1), (4, 7), CLUSTER, STREAM, (8, 12), (8, 100), (8, 200), (8, 3),
                     (8, len(SEGMENT)), (8, crc64nvme(SEGMENT)), (8, NANOS), (4, GAP_CHAIN))

STREAM_HEADER = block(b"AOF2STRM", (2, 0), (2, 0), (4, 7), CLUSTER, STREAM, SALT, (8, 42), (8, NANOS), stream_name(NAME))

CATALOG_ENTRY = block(b"AOF2SCAT", (2, 0), (2, 0), (4, 7), CLUSTER, VOLUME, STREAM, SALT, (8, 42), (8, NANOS), stream_name(NAME),
                      size=256)
JOURNAL_MARK = block(b"AOF2MARK", (2, 0), bytes(6), CLUSTER, NODE, VOLUME, (8, 5), (8, 9), (8, 1000), (8, 8))


def manifest_record(type_id, sequence, payload):
    head = le((2, type_id), (2, 0), (4, len(payload)), STREAM, (8, 12), (8, sequence), (8, NANOS), (4, 7))
    return head + le((4, crc32c(SALT + head + payload))) + payload


def text(value):
    return le((2, len(value)), value.encode())


KEY = "prod/orders/segments/orders-eu-1/00000000000000000100-0000000007-00000000000000000012.aofz"
EVENTS = [
    (0, le((8, 100), (4, 7))),
    (1, le((8, len(SEGMENT)), (8, crc64nvme(SEGMENT)), (8, 77), (8, 200), (1, 1), (4, GAP_CHAIN), (8, NANOS - 5), (8, NANOS),
            (8, NANOS + 7))),
    (2, b""),
    (3, le((8, 5000), (4, 3))),
    (4, le((2, 1))),
    (5, text(KEY)),
    (6, text(KEY) + text('"0123abcd"')),
    (7, text(KEY) + le((2, 3))),
    (8, text(KEY)),
    (9, text(KEY)),
    (10, le((1, 2))),
    (11, le((1, 1), (8, 6000))),
    (12, le((2, 4))),
    (13, le((1, 0), (8, 7000))),
    (14, le((8, 1), (8, 2), (8, 7 << 32 | 3))),
    (15, le((4, 9), b"blob")),
    (900, b"later"),
]


def manifest_commit(first, events, prev_chain):
    body = b"".join(manifest_record(type_id, first + index, payload) for index, (type_id, payload) in enumerate(events))
    head = le(b"MC2A", (2, 0), (2, len(events)), (4, len(body)), (4, prev_chain), (8, first), (4, 0))
    return head + le((4, crc32c(SALT + head + body))) + body


MANIFEST_COMMIT = manifest_commit(30, EVENTS, 0x0BADCAFE)
MANIFEST_CHUNK_HEADER = block(b"AOF2MANI", (2, 0), (2, 0), (4, 7), CLUSTER, STREAM, SALT, (8, 2), (8, 30), (8, NANOS),
                              (4, 0x0BADCAFE), stream_name(NAME))

PRODUCERS = le((8, 0x5566778899AABBCC), (4, 2), (4, 0), (8, 41), (8, 100), (8, 3), (8, 44), (8, 205), (8, 1),
               (8, 9), (4, 1), (4, 0), (8, 0), (8, 203), (8, 2))
PRODUCER_HEAD = le(b"PC2A", (2, 0), (2, 1), (8, 50), (8, 90), (4, 2))
PRODUCER_CHANGES = PRODUCER_HEAD + le((4, crc32c(PRODUCER_HEAD + PRODUCERS))) + PRODUCERS

BASE_BODY = (le((8, 0), (4, 7), (4, 0x0BADCAFE), (8, 1100000), (8, 0xABC0), (8, 0), (8, 30),
                (8, 1), (4, 7), (4, 0x0DEFACED), (8, 5000), (8, 0xABC1), (8, 30), (8, 50))
             + b"".join(manifest_record(EVENTS[at][0], 30 + at, EVENTS[at][1]) for at in (1, 14, 16))
             + le((4, len(PRODUCER_CHANGES)), (4, 0)) + PRODUCER_CHANGES)
MANIFEST_BASE = block(b"AOF2BASE", (2, 0), (2, 0), (4, 7), CLUSTER, STREAM, SALT, (8, 2), (8, 50), (8, NANOS), (4, 0x0DEFACED),
                      stream_name(NAME), (4, 1), (8, 3), (8, sum(56 + len(EVENTS[at][1]) for at in (1, 14, 16))),
                      (8, 8 + len(PRODUCER_CHANGES)), (8, 50), (8, 90), (8, crc64nvme(BASE_BODY)), size=256) + BASE_BODY

START = le(b"SS2A", (2, 0), (2, 1), (8, 160))
START_SEQUENCE = START + le((4, crc32c(START)))

DELETION = le(b"SD2A", (2, 0), (2, 1), (8, 7 << 32 | 3))
SNAPSHOT_DELETION = DELETION + le((4, crc32c(DELETION)))


def compaction(kind, base, end, epoch, inputs, reason=0, made=b""):
    head = le(b"CP2A", (2, 0), (2, kind), (8, base), (8, end), (4, epoch), (4, len(inputs)), (2, reason), (2, 0))
    rest = made + b"".join(le((8, segment)) for segment in inputs)
    return head + le((4, crc32c(head + rest))) + rest


MADE = le((8, 5000), (8, 0xABCD << 40), (8, 777), (8, NANOS - 5), (8, NANOS), (8, NANOS + 7), (4, GAP_CHAIN), (4, 0))
COMPACTION_BEGUN = compaction(0, 100, 260, 7, [11, 12, 9, 14])
COMPACTION_MERGED = compaction(1, 100, 260, 7, [11, 12, 9, 14], made=MADE)
COMPACTION_FAILED = compaction(2, 0, 0, 0, [], reason=3)
COMPACTION_GIVEN_UP = compaction(3, 0, 0, 0, [])

JOURNAL_HEADER = block(b"AOF2JRNL", (2, 0), bytes(6), CLUSTER, NODE, VOLUME, (8, 9), (8, FILE_SALT), (8, 1000), (8, 8192),
                       (8, NANOS), (8, 1 << 26))


def frame(kind, stream, file_id, position, base, body):
    head = le((2, kind), (2, 0), (4, len(body)), (8, stream), (8, file_id), (8, position), (8, base))
    return head + le((4, crc32c(head + body if kind in (3, 4) else head)), (4, 0)) + body


def position(stream, file_kind, file_id, synced):
    return le((8, stream), (2, file_kind), bytes(6), (8, file_id), (8, synced))


FRAMES = [
    frame(4, 0, 8, 0, 0, position(42, 0, 12, 4096) + position(42, 1, 2, 8192)),
    frame(1, 42, 12, 4096, 100, RECORDS + GAP),
    frame(2, 42, 2, 4096, 0, manifest_commit(30, EVENTS[:2], 0x0BADCAFE)),
    frame(3, 0, 9, 0, 0, position(43, 0, 1, 65536)),
    frame(77, 1, 2, 3, 4, b"later"),
]


def journal_commit(number, frames, prev_crc):
    body = b"".join(frames)
    head = le(b"JC2A", (2, 0), (2, 0), (8, FILE_SALT), (8, 9), (8, number), (4, 64 + len(body)), (4, len(frames)), (8, NANOS),
              (4, prev_crc))
    head += le((4, crc32c(le((8, FILE_SALT)) + head)), (4, 0))
    return head + le((4, crc32c(le((8, FILE_SALT)) + head + body))) + body


JOURNAL_COMMIT = journal_commit(1000, FRAMES, 0x00C0FFEE)

WARM_HEADER = block((4, 0x184D2A5F), (4, 248), b"AOF2WARM", (2, 0), (2, 0), (4, 7), CLUSTER, STREAM, (8, 12), (8, 100),
                    (4, 65536), (4, 3), stream_name(NAME), size=256)
ENTRIES = le((8, 100), (8, 0), (8, 256), (4, 900), (4, crc32c(SEGMENT[:4096 + len(RECORDS)])),
             (8, 103), (8, 4096 + len(RECORDS)), (8, 1156), (4, 80), (4, crc32c(GAP)))
INDEX = le((4, 0x184D2A5F), (4, len(ENTRIES) + 96), ENTRIES)
WARM_TAIL = INDEX + block(b"AOF2WEND", (2, 0), (2, 0), (4, 2), (8, 1236), (8, 12), (8, 100), (8, 200), (8, 3),
                          (8, len(SEGMENT)), (8, crc64nvme(SEGMENT)), (4, GAP_CHAIN), (4, 7), (4, crc32c(INDEX)), size=96)


def uuid(raw):
    digits = raw.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def compact(value):
    covered = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()[:-1]
    return covered + b',"crc32c":"%08x"}\n' % crc32c(covered)


CLAIM = compact({"format": "aof2-claim", "format_version": 0, "cluster_id": uuid(CLUSTER), "stream": NAME, "epoch": 7, "node_id": uuid(NODE),
                 "volume_id": uuid(VOLUME), "node": "orders-0", "address": "orders-0.orders-engine.default.svc:7421"})
CLUSTER_MARKER = compact({"format": "aof2-cluster", "format_version": 0, "cluster_id": uuid(CLUSTER), "namespace": "default", "name": "orders"})
VOLUME_IDENTITY = compact({"format": "aof2-volume", "format_version": 0, "cluster_id": uuid(CLUSTER), "node": "orders-0", "node_id": uuid(NODE),
                           "volume_id": uuid(VOLUME), "is_admitted": True, "mark": 5})
MARK = compact({"format": "aof2-mark", "format_version": 0, "cluster_id": uuid(CLUSTER), "node_id": uuid(NODE), "volume_id": uuid(VOLUME), "mark": 5,
                "node": "orders-0", "process": "4be1d2f0"})
CLOCK_READING = compact({"format": "aof2-clock", "format_version": 0, "wall_unix_nanos": NANOS})

SNAPSHOT_ID = str(7 << 32 | 3)
PREFIX = "prod/orders/"
SNAPSHOT_KEY = PREFIX + "snapshots/" + NAME + "/" + SNAPSHOT_ID + ".json"
DIGEST = "sha256:" + "5a" * 32


def segment_entry(number, base, records, **more):
    return {"segment_id": number, "epoch": 7, "base_sequence": base, "records": records, "bytes": 9000 + number, "crc64": "%016x" % (number << 40),
            "key": PREFIX + "segments/%s/%020d-%010d-%020d.aofz" % (NAME, base, 7, number), "etag": '"0123abcd"', "object_bytes": 800 + number, **more}


def chunk_entry(index, size):
    return {"index": index, "epoch": 7, "key": PREFIX + "manifest/%s/%010d/%020d.mlog" % (NAME, 7, index), "bytes": size, "crc64": "%016x" % (0xABC0 + index)}


SNAPSHOT = compact({"format": "aof2-snapshot", "format_version": 0, "cluster_id": uuid(CLUSTER), "stream": NAME, "stream_uuid": uuid(STREAM),
                    "snapshot_id": SNAPSHOT_ID, "request": "5f1c7a2e", "epoch": 7, "chunk_index": 1, "chunk_offset": 5000, "durable_sequence": 205, "start_sequence": 130,
                    "uploaded_sequence": 200, "created_at": "2026-11-26T22:00:00Z",
                    "segments": [segment_entry(11, 100, 60, object_crc64="00000000deadbeef"), segment_entry(12, 160, 40)],
                    "chunks": [chunk_entry(0, 1100000), chunk_entry(1, 5000)]})
RECOVERY = compact({"format": "aof2-recovery", "format_version": 0, "cluster_id": uuid(CLUSTER), "stream": NAME, "epoch": 7,
                    "snapshot_id": SNAPSHOT_ID, "chunk_index": 1, "chunk_offset": 5000, "uploaded_sequence": 200, "key": SNAPSHOT_KEY,
                    "digest": DIGEST, "at": "2026-11-26T22:00:00Z"})
SNAPSHOT_NOTE = compact({"format": "aof2-snapshot-note", "format_version": 0, "snapshot_id": SNAPSHOT_ID, "request": "5f1c7a2e", "key": SNAPSHOT_KEY,
                         "digest": DIGEST, "bytes": 1234, "durable_sequence": 205, "uploaded_sequence": 200, "started_unix_nanos": NANOS})


def main():
    OUT.mkdir(exist_ok=True)
    for name, data in {
        "record_batch": RECORDS,
        "record_batch_gap": GAP,
        "segment_header": SEGMENT_HEADER,
        "segment_seal": SEGMENT_SEAL,
        "stream_header": STREAM_HEADER,
        "manifest_commit": MANIFEST_COMMIT,
        "manifest_base": MANIFEST_BASE,
        "manifest_chunk_header": MANIFEST_CHUNK_HEADER,
        "producer_changes": PRODUCER_CHANGES,
        "start_sequence": START_SEQUENCE,
        "snapshot_deletion": SNAPSHOT_DELETION,
        "compaction_begun": COMPACTION_BEGUN,
        "compaction_merged": COMPACTION_MERGED,
        "compaction_failed": COMPACTION_FAILED,
        "compaction_given_up": COMPACTION_GIVEN_UP,
        "journal_header": JOURNAL_HEADER,
        "journal_commit": JOURNAL_COMMIT,
        "journal_mark": JOURNAL_MARK,
        "stream_catalog_entry": CATALOG_ENTRY,
        "warm_header": WARM_HEADER,
        "warm_tail": WARM_TAIL,
        "claim": CLAIM,
        "cluster": CLUSTER_MARKER,
        "volume": VOLUME_IDENTITY,
        "mark": MARK,
        "clock_reading": CLOCK_READING,
        "snapshot": SNAPSHOT,
        "recovery": RECOVERY,
        "snapshot_note": SNAPSHOT_NOTE,
    }.items():
        digits = data.hex()
        lines = [digits[at:at + 128] for at in range(0, len(digits), 128)]
        (OUT / f"{name}.hex").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
