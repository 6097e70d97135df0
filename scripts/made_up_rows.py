#!/usr/bin/env python3
"""Made-up rows for scripts/bench_rows.sh: an index all of whose versions are usable, and features for a share of them.

    made_up_rows.py LISTED.parquet INDEX.parquet FEATURES SHARE PART_ROWS

Needs pyarrow. Rows of features have one column (84 values).
"""

import hashlib
import json
import pathlib
import sys

import pyarrow as pa
import pyarrow.parquet as pq

CQT = {
    "sample_rate": 22050, "hop_length": 512, "bins": 84, "bins_per_octave": 12, "fmin_hz": 32.70319566257483, "pool": 5,
    "extractor": "bc-audio 2",
}


def provenance(kind, settings):
    return {
        "bytecover.format": kind, "bytecover.tool": "made_up_rows", "bytecover.settings": json.dumps(settings),
        "bytecover.fingerprint": "0" * 16, "bytecover.inputs": "{}",
    }


def main():
    listed, index, folder, share, part_rows = sys.argv[1:]
    folder, share, part_rows = pathlib.Path(folder), float(share), int(part_rows)
    folder.mkdir(parents=True, exist_ok=True)
    source = pq.ParquetFile(listed)
    schema = source.schema_arrow.with_metadata(provenance("index/1", {}))
    magnitude = b"\x00\x3c" * 84
    # The features' own hash of these bytes; nothing reads the magnitudes here but `compact`, which checks it.
    content = MAGNITUDE_HASH
    features = pa.schema(
        [
            pa.field("version_id", pa.string(), False), pa.field("frames", pa.uint32(), False),
            pa.field("source_hash", pa.string(), False), pa.field("source_bytes", pa.uint64()),
            pa.field("source_modified_ns", pa.int64()), pa.field("error_share", pa.float32()),
            pa.field("magnitude_hash", pa.string(), False), pa.field("magnitude", pa.binary(), False),
        ],
        provenance("features/2", CQT),
    )
    waiting, parts = [], 0

    def write_part():
        nonlocal waiting, parts
        rows = len(waiting)
        columns = [
            [row[0] for row in waiting], [1] * rows, [row[1] for row in waiting], [3_200_000] * rows, [1] * rows, [0.0] * rows,
            [content] * rows, [magnitude] * rows,
        ]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, features)]
        name = folder / f"part-{parts:05}-{parts:08x}.parquet"
        pq.write_table(pa.Table.from_arrays(arrays, schema=features), name, compression="zstd", use_dictionary=False)
        waiting, parts = [], parts + 1

    due = 0.0
    with pq.ParquetWriter(index, schema, compression="zstd") as writer:
        for batch in source.iter_batches(65536):
            ids = batch.column("version_id").to_pylist()
            rows = len(ids)
            hashes = [hashlib.md5(version.encode()).hexdigest() for version in ids]
            made = {
                "audio_path": [f"audio/{digest[:2]}/{version}.mp3" for version, digest in zip(ids, hashes)],
                "status": ["ok"] * rows, "reason": [None] * rows, "duration_s": [200.0] * rows, "sample_rate": [44100] * rows,
                "channels": [2] * rows, "codec": ["mp3"] * rows, "bytes": [3_200_000] * rows, "content_hash": hashes,
            }
            columns = [
                pa.array(made[field.name], field.type) if field.name in made else batch.column(field.name) for field in schema
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
            for version, digest in zip(ids, hashes):
                due += share
                if due >= 1.0:
                    due -= 1.0
                    waiting.append((version, digest))
                    if len(waiting) == part_rows:
                        write_part()
    if waiting:
        write_part()


# BLAKE3 of 84 times 1.0 as 16-bit floats, 32 hex digits.
MAGNITUDE_HASH = "a2a5bf00b80bd6b9f94a4dc269857214"

if __name__ == "__main__":
    main()
