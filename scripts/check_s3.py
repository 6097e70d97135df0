#!/usr/bin/env python3
"""Features of a folder of audio, and of the same files in an S3-like store on this machine: equal byte for byte.

    cargo build --release --workspace --features bc-download-index/s3,bc-features/s3 --bin bc-download-index --bin bc-features
    python3 scripts/check_s3.py [FOLDER_OF_AUDIO]

Needs moto[server] and boto3 from PyPI (a real S3 server over HTTP), else it says so and ends with 0. Without a folder the
covers mini set of the shared references is taken, else a few tones.
"""

import hashlib
import math
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import wave

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"

try:
    import boto3
    from moto.server import ThreadedMotoServer
except ImportError as missing:
    print(f"skipped: {missing} (pip install 'moto[server]' boto3)")
    sys.exit(0)


def tones(folder):
    for clique in range(3):
        (folder / f"song {clique}").mkdir(parents=True)
        for version in range(2):
            with wave.open(str(folder / f"song {clique}" / f"take+{version}.wav"), "wb") as out:
                out.setparams((1, 2, 22050, 0, "NONE", ""))
                step = math.tau * (110 + 40 * clique + version) / 22050
                out.writeframes(b"".join(struct.pack("<h", int(2e4 * math.sin(step * n))) for n in range(3 * 22050)))


def run(program, *arguments, environment=None, place, expected=(0,)):
    done = subprocess.run(
        [BIN / program, *arguments], cwd=place, env={**os.environ, **(environment or {})}, capture_output=True, text=True
    )
    if done.returncode not in expected:
        sys.exit(f"{program} {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def settings(dataset, name, source):
    return [
        word
        for value in (
            f"index.source={source[0]}", f"index.meta={source[1]}", f"index.dataset_path={dataset}", f"index.output={name}.parquet",
            f"features.index={name}.parquet", f"features.output={name}", "features.retry_wait_s=0.1",
        )
        for word in ("--set", value)
    ]


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.parquet"))}


def magnitudes(folder):
    """What the rows hold, whatever their part says of files and times: needs no reader of Parquet."""
    return run("bc-features", "inspect", "--set", f"features.output={folder.name}", place=folder.parent)


def main():
    place = pathlib.Path(tempfile.mkdtemp())
    audio, source = place / "audio", ("folder", "")
    mini = ROOT.parent / "shared/covers/mini/audio"
    if len(sys.argv) > 1:
        audio = pathlib.Path(sys.argv[1]).resolve()
    elif mini.is_dir():
        audio = mini.resolve()
    else:
        tones(audio)
    files = sorted(path for path in audio.rglob("*") if path.is_file())
    if any(path.parent == audio for path in files):
        # A heap of files: each a work of its own, by a table.
        source = ("csv", "list.csv")
        rows = "".join(f"{path.stem},{path.stem},{path.relative_to(audio)}\n" for path in files)
        (place / "list.csv").write_text("id,clique,path\n" + rows)
    # The same times everywhere, so that the files of features can be the same, too: those of the store.
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    store = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    client = boto3.client(
        "s3", endpoint_url=store["AWS_ENDPOINT_URL"], aws_access_key_id="key", aws_secret_access_key="secret", region_name="us-east-1"
    )
    client.create_bucket(Bucket="music")
    local = place / "copy"
    for path in files:
        name = path.relative_to(audio).as_posix()
        client.upload_file(str(path), "music", f"mini/{name}")
        copy = local / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
        modified = client.head_object(Bucket="music", Key=f"mini/{name}")["LastModified"].timestamp()
        os.utime(copy, ns=(int(modified) * 10**9,) * 2)
    for name, dataset, environment in (("folder", "copy", {}), ("store", "s3://music/mini", store)):
        words = settings(dataset, name, source)
        run("bc-download-index", "build", *words, environment=environment, place=place)
        run("bc-download-index", "verify", *words, environment=environment, place=place, expected=(0, 3))
        run("bc-features", "extract", *words, environment=environment, place=place, expected=(0, 3))
        again = run("bc-features", "extract", *words, environment=environment, place=place, expected=(0, 3))
        assert "Nothing to do" in again, again
        assert "Nothing to do" in run("bc-download-index", "build", *words, environment=environment, place=place)
    one, two = digests(place / "folder"), digests(place / "store")
    parts = {name for name in one if name.startswith("part-")}
    print(f"{len(files)} files; features from the folder: {sorted(parts)}")
    # The provenance of a part names the index, which names the paths; all else is the same, and so is the name, which is a hash
    # of settings, ids, hashes of files and hashes of magnitudes.
    assert parts and parts == {name for name in two if name.startswith("part-")}, (one, two)
    assert magnitudes(place / "folder") .replace("folder", "x") == magnitudes(place / "store").replace("store", "x")
    rows = compare_rows(place)
    # An object that goes away is a failure that may pass, or a version without a file; nothing else changes.
    client.delete_object(Bucket="music", Key=f"mini/{files[0].relative_to(audio).as_posix()}")
    said = run("bc-download-index", "verify", *settings("s3://music/mini", "store", source), environment=store, place=place, expected=(0, 3))
    assert "missing             1" in said, said
    # A store that is away is an error with its name, and no verdict on any file.
    server.stop()
    index = (place / "store.parquet").read_bytes()
    said = run("bc-download-index", "build", *settings("s3://music/mini", "store", source), environment=store, place=place, expected=(1,))
    assert "s3://music/mini" in said and (place / "store.parquet").read_bytes() == index, said
    print(f"the same, byte for byte: {rows}")


def compare_rows(place):
    try:
        import pyarrow.parquet as pq
    except ImportError:
        return "ids, hashes of the audio and of the magnitudes, by the names of the parts"
    count = total = 0
    for part in sorted((place / "folder").glob("part-*.parquet")):
        one, two = (pq.read_table(place / side / part.name) for side in ("folder", "store"))
        assert one.equals(two), part.name
        count += one.num_rows
        total += sum(len(value.as_py()) for value in one.column("magnitude"))
    return f"{count} rows with all their columns, {total} bytes of magnitudes"


if __name__ == "__main__":
    main()
