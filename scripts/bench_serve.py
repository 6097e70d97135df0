#!/usr/bin/env python3
"""Load and attacks on `bc-search serve`: the response to every client, its time and the memory of the server.

    scripts/bench_serve.py target/release/bc-search --network configs/networks/default [--clients 50] [--cores 2]

Needs only Python 3.9 and Linux. Synthesizes songs, makes an index of them in a temporary folder, starts the server, and prints
one Markdown row per experiment. The audio of each request differs in one sample, so that no response comes from a cache.
"""
import argparse
import array
import asyncio
import collections
import json
import math
import os
import pathlib
import random
import resource
import struct
import subprocess
import tempfile
import time

RATE = 22_050
BOUNDARY = "----bench"


def song(seed, seconds):
    """Chords and a melody as 16-bit samples."""
    rng = random.Random(seed)
    tonic, scale = rng.randrange(45, 57), [0, 2, 4, 5, 7, 9, 11]
    samples = array.array("h")
    beat = RATE // 2
    decay = [math.exp(-2 * n / RATE) for n in range(beat)]
    for _ in range(2 * seconds):
        root = rng.randrange(7)
        notes = [tonic + 12 * (degree // 7) + scale[degree % 7] for degree in (root, root + 2, root + 4, 7 + rng.randrange(9))]
        waves = [2 * math.pi * 440 * 2 ** ((note - 69) / 12) / RATE for note in notes]
        samples.extend(int(3000 * decay[n] * sum(math.sin(w * n) + 0.4 * math.sin(2 * w * n) for w in waves)) for n in range(beat))
    return samples


def wav(samples):
    data = samples.tobytes()
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16, b"data", len(data))
    return head + data


def flac_bomb(hours):
    """A FLAC of stereo audio that is constant within each block: 17 bytes per 1.5 s."""
    def crc(data, bits, polynomial):
        top, mask, value = 1 << (bits - 1), (1 << bits) - 1, 0
        for byte in data:
            value ^= byte << (bits - 8)
            for _ in range(8):
                value = ((value << 1) ^ polynomial if value & top else value << 1) & mask
        return value.to_bytes(bits // 8, "big")
    block, rate = 65_535, 44_100
    frames = min(int(hours * 3600 * rate / block) + 1, 60_000)
    packed = rate << 44 | 1 << 41 | 15 << 36 | frames * block
    data = bytearray(b"fLaC\x80\0\0\x22" + struct.pack(">HH", block, block) + bytes(6) + packed.to_bytes(8, "big") + bytes(16))
    for number in range(frames):
        value = struct.pack(">h", 12_000 if number % 2 else -12_000)
        frame_number = chr(number).encode("utf-8", "surrogatepass")
        head = b"\xff\xf8\x79\x18" + frame_number + struct.pack(">H", block - 1)
        frame = head + crc(head, 8, 0x07) + (b"\0" + value) * 2
        data += frame + crc(frame, 16, 0x8005)
    return bytes(data)


def form(name, content):
    return (f"--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n").encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def head(length):
    size = f"content-length: {length}" if length is not None else "transfer-encoding: chunked"
    return f"POST /identify HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: multipart/form-data; boundary={BOUNDARY}\r\n{size}\r\n\r\n".encode()


async def read_response(reader):
    """Status and body of the response; status 0 if the connection closes without a response."""
    received = b""
    try:
        while chunk := await reader.read(1 << 16):
            received += chunk
    except ConnectionError:
        pass
    if not received.startswith(b"HTTP/1.1 "):
        return 0, ""
    header, _, body = received.partition(b"\r\n\r\n")
    return int(header.split(b" ")[1]), body.decode(errors="replace")


async def identify(port, name, content):
    started = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = form(name, content)
    try:
        writer.write(head(len(body)) + body)
        await writer.drain()
    except ConnectionError:
        pass
    status, text = await read_response(reader)
    writer.close()
    return status, text, time.monotonic() - started


def changed_song(original, number):
    """A song as WAV that differs from the original in one sample."""
    samples = array.array("h", original)
    samples[number % len(samples)] ^= 1
    return wav(samples)


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


class Server:
    def __init__(self, options, folder):
        command = [options.program, "serve", str(folder / "index"), "--listen", "127.0.0.1:0", "--network", options.network]
        if options.cores:
            command = ["taskset", "-c", ",".join(map(str, range(options.cores)))] + command + ["--threads", str(options.cores)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline().split("http://127.0.0.1:")[1].split()[0])

    def peak_memory_mb(self):
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024

    def reset_peak_memory(self):
        pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def stop(self):
        self.process.terminate()
        return self.process.wait()


def print_row(experiment, statuses, times, server, note=""):
    outcome_counts = ", ".join(f"{count} x {status or 'no response'}" for status, count in sorted(statuses.items()))
    print(f"| {experiment} | {outcome_counts} | {quantile(times, 0.5):.2f} s | {quantile(times, 0.99):.2f} s | {server.peak_memory_mb():.0f} MB | {note} |", flush=True)


async def load(server, songs, clients, requests_per_client, experiment):
    statuses, times, counter = collections.Counter(), [], iter(range(10**9))

    async def client():
        for _ in range(requests_per_client):
            number = next(counter)
            status, text, seconds = await identify(server.port, f"{number}.wav", changed_song(songs[number % len(songs)], number))
            statuses[status] += 1
            if status == 200:
                times.append(seconds)
            elif number < 3:
                print(text)
    started = time.monotonic()
    await asyncio.gather(*(client() for _ in range(clients)))
    print_row(experiment, statuses, times, server, f"{clients * requests_per_client / (time.monotonic() - started):.1f} responses per second")


async def slow_clients(server, songs, count):
    async def client(number):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /identify HTTP/1.1\r\nhost: local" if number % 2 else head(10**6)[:-2])
        status, _ = await read_response(reader)
        writer.close()
        return status
    waiting = [asyncio.create_task(client(number)) for number in range(count)]
    await asyncio.sleep(1)
    times, ordinary = [], collections.Counter()
    for number in range(10):
        status, _, seconds = await identify(server.port, "x.wav", changed_song(songs[0], 10**5 + number))
        ordinary[status] += 1
        times.append(seconds)
    statuses = collections.Counter(await asyncio.gather(*waiting))
    print_row(f"{count} connections with half of the headers", statuses, times, server, f"times of {sum(ordinary.values())} ordinary requests meanwhile, all {dict(ordinary)}")


async def huge_upload(server, size, chunked):
    started = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    form_start = form("huge.wav", b"")[:-len(f"\r\n--{BOUNDARY}--\r\n")]
    response = asyncio.create_task(read_response(reader))
    sent, chunk = 0, bytes(1 << 20)
    try:
        writer.write(head(None if chunked else size))
        writer.write(f"{len(form_start):x}\r\n".encode() + form_start + b"\r\n" if chunked else form_start)
        while sent < size and not response.done():
            writer.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" if chunked else chunk)
            await writer.drain()
            sent += len(chunk)
        if chunked:
            writer.write(b"0\r\n\r\n")
        await writer.drain()
    except ConnectionError:
        pass
    status, text = await response
    writer.close()
    length = "without a content-length" if chunked else "with a content-length"
    print_row(f"{size / 1e9:.0f} GB, {length}", {status: 1}, [time.monotonic() - started], server, json.loads(text)["error"] if text else "")


async def main(options):
    max_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max_files, max_files))
    songs = [song(seed, options.seconds) for seed in range(8)]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "songs").mkdir()
        for number, samples in enumerate(songs):
            (folder / "songs" / f"{number}.wav").write_bytes(wav(samples))
        subprocess.run([options.program, "add", folder / "songs", "--index", folder / "index", "--network", options.network], check=True, stdout=subprocess.DEVNULL)
        server = Server(options, folder)
        print(f"{options.seconds} s of audio per request; load of the machine before: {os.getloadavg()[0]:.1f}\n")
        print("| experiment | responses | p50 | p99 | peak memory | |\n|---|---|---|---|---|---|", flush=True)
        try:
            await load(server, songs, 1, 10, "1 client")
            server.reset_peak_memory()
            await load(server, songs, options.clients, options.each, f"{options.clients} clients")
            for experiment in (
                lambda: load(server, songs, 4 * options.clients, 2, f"{4 * options.clients} clients"),
                lambda: slow_clients(server, songs, 1000),
                lambda: huge_upload(server, 2_000_000_000, False),
                lambda: huge_upload(server, 2_000_000_000, True),
            ):
                server.reset_peak_memory()
                await experiment()
            server.reset_peak_memory()
            status, text, seconds = await identify(server.port, "bomb.flac", flac_bomb(20))
            print_row(f"FLAC of {len(flac_bomb(20)) / 1e6:.1f} MB that decodes to 20 h", {status: 1}, [seconds], server, json.loads(text)["error"] if text else "")
        finally:
            code = server.stop()
        print(f"\nstopped with exit code {code}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--network", required=True)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--each", type=int, default=4, help="requests per client")
    parser.add_argument("--seconds", type=int, default=60, help="length of a recording")
    parser.add_argument("--cores", type=int, default=0, help="number of cores to pin the server to; all by default")
    asyncio.run(main(parser.parse_args()))
