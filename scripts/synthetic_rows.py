#!/usr/bin/env python3
"""Writes synthetic rows for scripts/bench_rows.sh: an index of usable versions, and features for a share of them.

    synthetic_rows.py LISTED.parquet INDEX.parquet FEATURES SHARE PART_ROWS

Needs pyarrow. Rows of features have one column (84 values).
"""

import hashlib
import json
import pathlib
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

CQT = {
    "sample_rate": 22050, "hop_length": 512, "bins": 84, "bins_per_octave": 12, "fmin_hz": 32.70319566257483, "pool": 5,
    "extractor": "bc-audio 2",
}
# BLAKE3 of 84 times 1.0 as 16-bit floats, 32 hex digits: nothing reads the magnitudes here but `compact`, which checks it.
MAGNITUDE_HASH = "a2a5bf00b80bd6b9f94a4dc269857214"


def provenance(kind, settings):
    return {
        "bytecover.format": kind, "bytecover.tool": "synthetic_rows", "bytecover.settings": json.dumps(settings),
        "bytecover.fingerprint": "0" * 16, "bytecover.inputs": "{}",
    }


FEATURES = pa.schema(
    [
        pa.field("version_id", pa.string(), False), pa.field("frames", pa.uint32(), False),
        pa.field("source_hash", pa.string(), False), pa.field("source_bytes", pa.uint64()),
        pa.field("source_modified_ns", pa.int64()), pa.field("error_share", pa.float32()),
        pa.field("magnitude_hash", pa.string(), False), pa.field("magnitude", pa.binary(), False),
    ],
    provenance("features/2", CQT),
)
# Values that all rows share.
SAME_FEATURES = {
    "frames": 1, "source_bytes": 3_200_000, "source_modified_ns": 1, "error_share": 0.0, "magnitude_hash": MAGNITUDE_HASH,
    "magnitude": b"\x00\x3c" * 84,
}
SAME_VERSIONS = {
    "status": "ok", "reason": None, "duration_s": 200.0, "sample_rate": 44100, "channels": 2, "codec": "mp3", "bytes": 3_200_000,
}


def columns(schema, given, constant, rows):
    return [
        given[field.name] if field.name in given else pa.repeat(pa.scalar(constant[field.name], field.type), rows)
        for field in schema
    ]


def write_parts(folder, pending, parts, part_rows, min_rows):
    """Writes full parts of the pending rows (ids and hashes) until fewer than `min_rows` are left; returns those."""
    table = pa.concat_tables(pending).combine_chunks() if pending else None
    while table is not None and table.num_rows >= min_rows:
        part = table.slice(0, part_rows)
        given = {name: part.column(name).combine_chunks() for name in ("version_id", "source_hash")}
        arrays = columns(FEATURES, given, SAME_FEATURES, part.num_rows)
        name = folder / f"part-{parts:05}-{parts:08x}.parquet"
        pq.write_table(pa.Table.from_arrays(arrays, schema=FEATURES), name, compression="zstd", use_dictionary=False)
        parts += 1
        table = table.slice(part_rows) if table.num_rows > part_rows else None
    return ([table] if table is not None else []), parts


def main():
    listed, index, folder, share, part_rows = sys.argv[1:]
    folder, share, part_rows = pathlib.Path(folder), float(share), int(part_rows)
    folder.mkdir(parents=True, exist_ok=True)
    source = pq.ParquetFile(listed)
    schema = source.schema_arrow.with_metadata(provenance("index/1", {}))
    pending, parts, done = [], 0, 0
    with pq.ParquetWriter(index, schema, compression="zstd") as writer:
        for batch in source.iter_batches(65536):
            rows = batch.num_rows
            ids = batch.column("version_id")
            hashes = pa.array([hashlib.md5(version.encode()).hexdigest() for version in ids.to_pylist()])
            paths = pc.binary_join_element_wise("audio/", pc.utf8_slice_codeunits(hashes, 0, 2), "/", ids, ".mp3", "")
            given = {field.name: batch.column(field.name) for field in schema if field.name not in SAME_VERSIONS}
            given |= {"audio_path": paths, "content_hash": hashes}
            writer.write_batch(pa.RecordBatch.from_arrays(columns(schema, given, SAME_VERSIONS, rows), schema=schema))
            # Features are spread evenly over the versions.
            due = np.floor(np.arange(done, done + rows + 1) * share)
            has_features = pa.array(due[1:] > due[:-1])
            pending.append(pa.table({"version_id": ids, "source_hash": hashes}).filter(has_features))
            pending, parts = write_parts(folder, pending, parts, part_rows, part_rows)
            done += rows
    write_parts(folder, pending, parts, part_rows, 1)


if __name__ == "__main__":
    main()
