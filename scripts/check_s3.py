#!/usr/bin/env python3
"""Checks that features of a folder of audio equal those of the same files in an S3-like store, byte for byte.

    cargo build --release --workspace --bins --features bc-download-index/s3,bc-features/s3,bc-search/s3
    python3 scripts/check_s3.py                      six tones, and the errors of stores
    python3 scripts/check_s3.py FOLDER_OF_AUDIO      these files

Needs moto[server] and boto3 from PyPI (a real S3 server over HTTP), else it is skipped. Between programs and server
is a proxy that counts requests and fails as stores do: it breaks off, refuses, loses an object.
"""

import collections
import hashlib
import http.client
import http.server
import logging
import math
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import urllib.parse
import wave

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(os.environ.get("BC_BIN") or pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release")

try:
    import boto3
    from moto.server import ThreadedMotoServer
except ImportError as missing:
    print(f"skipped: {missing} (pip install 'moto[server]' boto3)")
    sys.exit(0)


class Proxy(http.server.ThreadingHTTPServer):
    """Forwards requests to the store, except for those that `fault` answers."""

    daemon_threads = True

    def __init__(self, store):
        super().__init__(("127.0.0.1", 0), Handler)
        self.store, self.counts, self.seen, self.fault = store, collections.Counter(), set(), None
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def counted(self):
        """How many requests of each kind there were since the last call."""
        counts, self.counts = self.counts, collections.Counter()
        return dict(counts)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, path = self.server, urllib.parse.urlsplit(self.path)
        kind = "LIST" if "list-type" in path.query else self.command
        server.counts[kind] += 1
        first = path.path not in server.seen
        server.seen.add(path.path)
        fault = server.fault(kind, path, first) if server.fault else None
        if isinstance(fault, tuple):
            return self.answer(fault[0], {}, fault[1].encode())
        connection = http.client.HTTPConnection(*server.store, timeout=60)
        connection.request(self.command, self.path)
        response = connection.getresponse()
        body = response.read()
        self.answer(response.status, dict(response.getheaders()), body, half=fault == "half")
        connection.close()

    do_HEAD = do_GET

    def answer(self, status, headers, body, half=False):
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        length = next((value for name, value in headers.items() if name.lower() == "content-length"), len(body))
        self.send_header("Content-Length", length)
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if half else body)
        self.close_connection = True

    def log_message(self, *_):
        pass


def tones(folder):
    """Six files in folders of works, with names that a URL must escape."""
    for clique in range(3):
        (folder / f"song {clique}").mkdir(parents=True)
        for version in range(2):
            with wave.open(str(folder / f"song {clique}" / f"take+{version} ä%.wav"), "wb") as out:
                out.setparams((1, 2, 22050, 0, "NONE", ""))
                step = math.tau * (110 + 40 * clique + version) / 22050
                out.writeframes(b"".join(struct.pack("<h", int(2e4 * math.sin(step * n))) for n in range(12 * 22050)))


class Check:
    """A folder of audio, its copy in a store, and the programs."""

    def __init__(self, audio):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.source = ("folder", "")
        if audio is None:
            audio = self.folder / "audio"
            tones(audio)
        self.files = sorted(path for path in audio.rglob("*") if path.is_file())
        self.names = [path.relative_to(audio).as_posix() for path in self.files]
        if any(path.parent == audio for path in self.files):
            # Unsorted files: each a separate work, by a table.
            self.source = ("csv", "list.csv")
            rows = "".join(f"{path.stem},{path.stem},{name}\n" for path, name in zip(self.files, self.names))
            (self.folder / "list.csv").write_text("id,clique,path\n" + rows)
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
        self.server.start()
        store = self.server.get_host_and_port()
        self.proxy = Proxy(store)
        self.environment = {
            "AWS_ENDPOINT_URL": "http://{}:{}".format(*self.proxy.server_address), "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1",
        }
        self.client = boto3.client(
            "s3", endpoint_url="http://{}:{}".format(*store), aws_access_key_id="key", aws_secret_access_key="secret",
            region_name="us-east-1",
        )
        self.client.create_bucket(Bucket="music")
        for path, name in zip(self.files, self.names):
            self.upload(path, name)

    def upload(self, path, name):
        """Into the store, and into the folder `copy` with the store's time, so that the files of features can be the same."""
        self.client.upload_file(str(path), "music", f"mini/{name}")
        copy = self.folder / "copy" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
        modified = self.client.head_object(Bucket="music", Key=f"mini/{name}")["LastModified"].timestamp()
        os.utime(copy, ns=(int(modified) * 10**9,) * 2)

    def run(self, program, *arguments, expected=(0,), **environment):
        """Runs a program; a variable that is None is not set."""
        variables = {name: value for name, value in (self.environment | environment).items() if value is not None}
        done = subprocess.run(
            [BIN / program, *arguments], cwd=self.folder, env={**os.environ, **variables}, capture_output=True, text=True
        )
        output = done.stdout + done.stderr
        if done.returncode not in expected:
            sys.exit(f"{program} {' '.join(map(str, arguments))} ended with {done.returncode}:\n{output}")
        return output

    def settings(self, dataset, name):
        values = (
            f"index.source={self.source[0]}", f"index.meta={self.source[1]}", f"index.dataset_path={dataset}",
            f"index.output={name}.parquet", f"features.index={name}.parquet", f"features.output={name}", "features.retry_wait_s=0.1",
        )
        return [word for value in values for word in ("--set", value)]

    def stages(self, dataset, name):
        """Index, verification and features, each twice; returns the output and the requests of the first time."""
        words, output, requests = self.settings(dataset, name), {}, {}
        for program, command in (("bc-download-index", "build"), ("bc-download-index", "verify"), ("bc-features", "extract")):
            self.proxy.counted()
            output[command] = self.run(program, command, *words)
            requests[command] = self.proxy.counted()
        for program, command in (("bc-features", "extract"), ("bc-download-index", "build")):
            assert "Nothing to do" in self.run(program, command, *words), f"{command} of {name} again"
        assert not self.proxy.counted().get("GET"), "what is known was fetched again"
        return output, requests

    def compare(self, first, second):
        """Compares two folders of features; returns a text on what is equal."""
        folders = [self.folder / name for name in (first, second)]
        names = [sorted(path.name for path in folder.glob("part-*.parquet")) for folder in folders]
        # The name holds a hash of settings, ids, hashes of the audio and of the magnitudes.
        assert names[0] and names[0] == names[1], names
        try:
            import pyarrow.parquet as pq
        except ImportError:
            listed = [self.run("bc-features", "inspect", "--set", f"features.output={name}").replace(name, "x") for name in (first, second)]
            assert listed[0] == listed[1]
            return f"{len(names[0])} parts by the hashes in their names (no pyarrow to compare all columns)"
        rows = size = 0
        for name in names[0]:
            tables = [pq.read_table(folder / name) for folder in folders]
            assert tables[0].equals(tables[1]), name
            rows += tables[0].num_rows
            size += sum(len(value.as_py()) for value in tables[0].column("magnitude"))
        return f"{rows} rows with all their columns, {size} bytes of magnitudes"

    def check_same_features(self):
        self.stages("copy", "folder")
        _, requests = self.stages("s3://music/mini", "store")
        print(f"{len(self.files)} files; requests of the store: {requests}")
        print(f"the same, byte for byte: {self.compare('folder', 'store')}")
        count = len(self.files)
        assert all(kinds.get("HEAD", 0) == 0 for kinds in requests.values()), "the list makes HEAD requests unnecessary"
        assert requests["verify"]["GET"] == requests["extract"]["GET"] == count and "GET" not in requests["build"]

    def check_interrupted_answers(self):
        """The first answer for every object breaks off after half of it."""
        self.proxy.seen.clear()
        self.proxy.fault = lambda kind, _path, first: "half" if first and kind == "GET" else None
        self.proxy.counted()
        words = self.settings("s3://music/mini", "store")
        output = self.run("bc-features", "extract", *words, "--set", "features.output=broken")
        assert f"{len(self.files)} further tries" in output, output
        self.proxy.fault = None
        self.compare("folder", "broken")
        print(f"a store that breaks off: {output.strip().splitlines()[-1]}; the same features")

    def check_missing_object(self):
        """An object is in the list, but gone when it is fetched."""
        gone = urllib.parse.quote(f"/music/mini/{self.names[0]}")
        self.proxy.fault = lambda kind, path, _first: (404, "") if kind != "LIST" and path.path == gone else None
        words = self.settings("s3://music/mini", "store")
        output = self.run("bc-features", "extract", *words, "--set", "features.output=gone", expected=(3,))
        assert "1 failed" in output and "1 may pass" in output, output
        self.proxy.fault = None
        self.run("bc-features", "extract", *words, "--set", "features.output=gone")
        print("an object gone midway: one failure that may pass; the next run has it")
        self.client.delete_object(Bucket="music", Key=f"mini/{self.names[0]}")
        output = self.run("bc-download-index", "verify", *words, expected=(0, 3))
        assert "missing            1" in output, output
        self.upload(self.files[0], self.names[0])

    def check_refusals(self):
        """No bucket, no credentials, no store: an error with the remedy, and the index stays as it was."""
        index = (self.folder / "store.parquet").read_bytes()
        denied = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        for what, dataset, fault, variables, words in (
            ("no bucket", "s3://musik/mini", None, {}, ("there is no bucket `musik`",)),
            ("no credentials", "s3://music/mini", lambda _kind, path, _first: None if "X-Amz-Signature" in path.query else (403, denied),
             {"AWS_ACCESS_KEY_ID": None}, ("403 AccessDenied", "no credentials are given: set AWS_ACCESS_KEY_ID")),
            ("wrong credentials", "s3://music/mini", lambda *_: (403, denied), {}, ("403 AccessDenied", "see AWS_ACCESS_KEY_ID")),
            ("a busy store", "s3://music/mini", lambda *_: (503, ""), {}, ("the store answers 503",)),
            ("no store", "s3://music/mini", None, {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, ("the store does not answer",)),
        ):
            self.proxy.fault = fault
            output = self.run("bc-download-index", "build", *self.settings(dataset, "store"), expected=(1,), **variables)
            assert dataset in output and all(word in output for word in words), output
            assert (self.folder / "store.parquet").read_bytes() == index, "the index was touched"
            print(f"{what}: {output.strip().splitlines()[-1]}")
        self.proxy.fault = None

    def check_search_add(self):
        """`bc-search add` reads objects, too."""
        if not (BIN / "bc-search").exists():
            print("not tried: bc-search is not built")
            return
        network = ["--network", ROOT / "configs/networks/default"]
        output = self.run("bc-search", "add", "s3://music/mini", "--index", "try.songs", *network, expected=(0, 1))
        if "built without object stores" in output:
            print("not tried: bc-search was built without object stores")
            return
        for name, audio in (("f", "copy"), ("s", "s3://music/mini")):
            self.run("bc-search", "add", audio, "--index", f"{name}.songs", *network)
            self.proxy.counted()
            again = self.run("bc-search", "add", audio, "--index", f"{name}.songs", *network)
            assert f"{len(self.files)}" in again, again
        assert not self.proxy.counted().get("GET"), "what is known was fetched again"
        vectors = [sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in (self.folder / f"{name}.songs").rglob("*.vec*"))
                   for name in "fs"]
        assert vectors[0] and vectors[0] == vectors[1], [list((self.folder / f"{name}.songs").rglob("*")) for name in "fs"]
        print("bc-search add: the same vectors")


def main():
    for program in ("bc-download-index", "bc-features"):
        if not (BIN / program).exists():
            print(f"skipped: there is no {BIN / program}")
            return
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    given = pathlib.Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else None
    check = Check(given)
    check.check_same_features()
    if given is None:
        check.check_interrupted_answers()
        check.check_missing_object()
        check.check_refusals()
        check.check_search_add()
    check.server.stop()
    shutil.rmtree(check.folder)


if __name__ == "__main__":
    main()
