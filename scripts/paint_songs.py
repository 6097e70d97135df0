#!/usr/bin/env python3
"""Paints constant-Q features of many made-up versions of songs, from their MIDI files alone.

    pip install mido numpy pyarrow
    scripts/paint_songs.py --source SONGS --splits splits.json --out data/painted [--versions 24]

A version is a piano roll seen through harmonics: no sound is made. Each is drawn anew: which parts
play and how loud, their octave, harmonics, formants and decay, another accompaniment from the same
chords, tempo (0.75 to 1.33), key (6 semitones either way), drums, noise, equaliser, where the piece
begins. That is far from real audio, yet a network can be taught on hundreds of versions an hour of
waiting instead of a few, and what it learns there is melody and harmony (docs/notes-train.md).

--source: a folder, or .tar[.gz|.xz|.bz2], of MIDI files with POP909's layout NNN/NNN.mid and its
tracks MELODY, BRIDGE, PIANO. --splits: a JSON object with lists of song names, "train" and "val".
Written: OUT/index.parquet and OUT/features/part-*.parquet, which bc-train takes like the files of
stages 1 and 2 (docs/FORMATS.md), of the default transform pooled by 5. The same seed gives the same rows.
"""
import argparse
import hashlib
import io
import json
import multiprocessing
import os
import tarfile
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import mido
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

BINS, LOWEST_PITCH = 84, 24
SETTINGS = {
    "sample_rate": 22050,
    "hop_length": 512,
    "bins": BINS,
    "bins_per_octave": 12,
    "fmin_hz": 32.70319566257483,
    "pool": 5,
}
COLUMN_S = SETTINGS["hop_length"] * SETTINGS["pool"] / SETTINGS["sample_rate"]
PARTS = ("melody", "bridge", "backing")
ROWS_A_PART = 1000


def read_notes(data):
    """{part: array of (start s, end s, pitch, velocity)} of a MIDI file."""
    midi = mido.MidiFile(file=io.BytesIO(data))
    tempi = [(0, 500_000)]
    for track in midi.tracks:
        tick = 0
        for message in track:
            tick += message.time
            if message.type == "set_tempo":
                tempi.append((tick, message.tempo))
    tempi = sorted(tempi, key=lambda change: change[0])
    ticks = np.array([tick for tick, _ in tempi])
    lengths = np.array([tempo for _, tempo in tempi]) / 1e6 / midi.ticks_per_beat
    begins = np.concatenate([[0.0], np.cumsum(np.diff(ticks) * lengths[:-1])])

    def seconds(tick):
        place = np.searchsorted(ticks, tick, side="right") - 1
        return begins[place] + (tick - ticks[place]) * lengths[place]

    parts = {}
    for track in midi.tracks:
        name = track.name.upper()
        part = next((p for p, word in zip(PARTS, ("MEL", "BRIDGE", "PIAN")) if word in name), None)
        tick, sounding, notes = 0, {}, []
        for message in track:
            tick += message.time
            if message.type == "note_on" and message.velocity:
                sounding[message.note] = (seconds(tick), message.velocity)
            elif message.type in ("note_on", "note_off") and message.note in sounding:
                start, velocity = sounding.pop(message.note)
                notes.append((start, seconds(tick), message.note, velocity))
        if part and notes:
            parts.setdefault(part, np.array(notes))
    return parts


def read_songs(source):
    """{song: parts} of the base arrangements."""
    source = Path(source)

    def wanted(path):
        return path.suffix == ".mid" and path.stem == path.parent.name

    if source.is_dir():
        files = ((path.stem, path.read_bytes()) for path in sorted(source.rglob("*.mid")) if wanted(path))
    else:
        archive = tarfile.open(source)
        members = (member for member in archive if member.isfile() and wanted(Path(member.name)))
        files = ((Path(member.name).stem, archive.extractfile(member).read()) for member in members)
    songs = {name: read_notes(data) for name, data in files}
    return {name: parts for name, parts in sorted(songs.items()) if parts}


def smooth(random, spread, knots, mean=0.0):
    """A random curve over the bins, as a factor."""
    return np.exp(np.interp(np.arange(BINS), np.linspace(0, BINS - 1, knots), random.normal(mean, spread, knots)))


def timbre(random):
    """bins x pitches: what a note of each pitch sounds like."""
    harmonics = np.arange(1, random.integers(1, 9) + 1)
    strength = harmonics ** -random.uniform(0.3, 2.2) * random.uniform(0.3, 1.2, len(harmonics))
    if random.random() < 0.25:
        strength = np.where(harmonics % 2 == 0, 0.15 * strength, strength)
    centre = np.arange(128)[:, None] - LOWEST_PITCH + 12 * np.log2(harmonics) + random.uniform(-0.35, 0.35)
    pitch = np.broadcast_to(np.arange(128)[:, None], centre.shape)
    formants = smooth(random, 0.5, 12)
    seen = np.zeros((BINS, 128))
    for offset in range(-2, 3):
        place = np.round(centre).astype(int) + offset
        away = np.abs(place - centre)
        # The transform's Hann window: a tone reaches two bins either way.
        weight = np.where(away < 2, 0.5 + 0.5 * np.cos(np.pi * away / 2), 0)
        inside = (place >= 0) & (place < BINS)
        np.add.at(seen, (place[inside], pitch[inside]), (weight * strength)[inside])
    return seen * formants[:, None]


def rearranged(random, notes, start, end):
    """Another accompaniment over the chords of one."""
    step, style, low = random.choice([0.5, 1.0, 1.0, 2.0]), random.integers(4), 12 * random.integers(3, 6)
    made = []
    for at in np.arange(start - 1 + random.uniform(0, step), end, step):
        here = notes[(notes[:, 1] > at) & (notes[:, 0] < at + step)]
        if not len(here):
            continue
        share = np.zeros(12)
        lasts = np.minimum(here[:, 1], at + step) - np.maximum(here[:, 0], at)
        np.add.at(share, here[:, 2].astype(int) % 12, lasts)
        chord = [low + tone for tone in np.argsort(-share)[:3] if share[tone] > 0.1 * share.max()]
        made.append((at, at + step, here[:, 2].min() % 12 + 36, 80))
        if style == 0:
            made += [(at, at + step, pitch, 70) for pitch in chord]
        elif style == 1:
            count = random.choice([2, 4])
            for n in range(count):
                pitch = chord[n % len(chord)] + 12 * (n // len(chord) % 2)
                made.append((at + n * step / count, at + (n + 1) * step / count, pitch, 75))
        elif style == 2:
            made += [(at + n * step / 2, at + n * step / 2 + 0.15, pitch, 75) for n in range(2) for pitch in chord]
        else:
            made += [(at, at + step, pitch + 12, 60) for pitch in chord] + [(at, at + step, chord[0], 60)]
    return np.array(made) if made else notes


def roll_of(random, notes, start, rate, columns):
    """pitches x columns: how loud every note is, with one way of decaying."""
    decay = np.exp(-COLUMN_S / random.uniform(0.15, 3)) if random.random() < 0.6 else random.uniform(0.97, 1)
    held = random.uniform(1, 1.6) if random.random() < 0.5 else random.uniform(0.4, 1)
    begin = (notes[:, 0] + random.normal(0, random.uniform(0, 0.04), len(notes)) - start) / rate / COLUMN_S
    end = begin + np.maximum((notes[:, 1] - notes[:, 0]) * held / rate / COLUMN_S, 0.5)
    roll = np.zeros((128, columns))
    for a, b, pitch, velocity in zip(begin, end, notes[:, 2].astype(int), notes[:, 3] / 100):
        first, last = int(np.floor(a)), min(int(np.ceil(b)), columns)
        if last <= 0 or first >= columns or not 0 <= pitch < 128:
            continue
        if first >= 0:
            roll[pitch, first] = max(roll[pitch, first], velocity * (1 - (a - first)))
        rest = np.arange(max(first + 1, 0), last)
        roll[pitch, rest] = np.maximum(roll[pitch, rest], velocity * decay ** (rest - first - 1))
    return roll


def paint(random, song, start, rate, columns):
    """bins x columns of a version of `song` from `start` (s) on, `rate` times as fast."""
    end = start + columns * COLUMN_S * rate
    playing = set(song)
    left_out = random.random()
    if left_out < 0.12 and "backing" in playing:
        playing.discard("melody")
    elif left_out < 0.2 and "melody" in playing:
        playing.discard("backing")
    if random.random() < 0.5 and len(playing) > 1:
        playing.discard("bridge")
    picture = np.zeros((BINS, columns))
    for part in (part for part in PARTS if part in playing):
        notes = song[part]
        notes = notes[(notes[:, 1] > start - 1) & (notes[:, 0] < end)].copy()
        if not len(notes):
            continue
        if part == "backing" and random.random() < 0.6:
            notes = rearranged(random, notes, start, end)
        elif random.random() < (0.4 if part == "melody" else 0.3):
            notes[:, 2] += 12 * random.choice([-1, 1])
        loud = np.exp(random.normal(0, 0.5)) * (1.3 if part == "melody" else 0.8)
        picture += loud * (timbre(random) @ roll_of(random, notes, start, rate, columns))
    peak = picture.max() or 1.0
    if random.random() < 0.6:
        beats = np.zeros(columns)
        period = random.uniform(3, 12)
        at = np.arange(random.uniform(0, period), columns - 1, period).astype(int)
        beats[at] = random.uniform(0.4, 1, len(at))
        drum = smooth(random, 1.0, 5, mean=-2.5) * peak * random.uniform(0.1, 0.8)
        picture += drum[:, None] * beats * random.uniform(0.5, 1, picture.shape)
    picture *= np.exp(random.normal(0, random.uniform(0, 0.25), picture.shape))
    noise = peak * 10 ** random.uniform(-4, -1.8) * smooth(random, 0.7, 6)
    picture += noise[:, None] * random.rayleigh(1, picture.shape)
    return picture * smooth(random, 0.6, 8)[:, None]


def transposed(picture, bins):
    moved = np.zeros_like(picture)
    if bins >= 0:
        moved[bins:] = picture[: BINS - bins]
    else:
        moved[:bins] = picture[-bins:]
    return moved


def versions_of(job):
    name, song, count, seconds, seed = job
    columns = int(seconds / COLUMN_S)
    random = np.random.default_rng([seed, int.from_bytes(hashlib.blake2b(name.encode(), digest_size=6).digest())])
    length = max(notes[:, 1].max() for notes in song.values())
    begin = random.uniform(0, np.clip(length - seconds, 1, 15))
    made = []
    for _ in range(count):
        rate = np.exp(random.uniform(np.log(0.75), np.log(1.33)))
        picture = paint(random, song, begin + random.uniform(-6, 6), rate, columns)
        picture *= random.uniform(0.3, 2) / picture.max()
        made.append(transposed(picture, random.integers(-6, 7)).astype("<f2").tobytes())
    return made


def provenance(kind, arguments, content):
    return {
        "bytecover.format": kind,
        "bytecover.tool": "paint_songs.py",
        "bytecover.settings": json.dumps(SETTINGS if kind.startswith("features") else arguments),
        "bytecover.fingerprint": hashlib.blake2b(content, digest_size=8).hexdigest(),
        "bytecover.inputs": "{}",
    }


def write(path, columns, metadata):
    """Under a temporary name first: nobody takes half a file for a whole one."""
    fields = [pa.field(name, kind, nullable=nullable) for name, (kind, nullable, _) in columns.items()]
    arrays = [pa.array(values, kind) for kind, _, values in columns.values()]
    table = pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=metadata))
    pq.write_table(table, f"{path}.tmp", compression="zstd")
    os.replace(f"{path}.tmp", path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True)
    parser.add_argument("--splits", required=True)
    parser.add_argument("--exclude", help="a JSON object like --splits; its val and test songs are left out")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--versions", type=int, default=24, help="versions of a training song (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of a version (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    songs = read_songs(arguments.source)
    splits = json.loads(Path(arguments.splits).read_text())
    excluded = json.loads(Path(arguments.exclude).read_text()) if arguments.exclude else {}
    excluded = {song for split in ("val", "test") for song in excluded.get(split, [])}
    split_of = {song: "train" for song in splits["train"]}
    split_of |= {song: "val" for song in splits["val"]}
    # "merge" names songs that are another's tune.
    excluded |= set(splits.get("merge", {}))
    chosen = [song for song in songs if song in split_of and song not in excluded]
    folder = arguments.out / "features"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.parquet"):
        old.unlink()
    shown = {key: str(value) for key, value in vars(arguments).items()}
    rows, parts, waiting = [], 0, []

    def end_part():
        nonlocal parts, waiting
        columns = {
            "version_id": (pa.string(), False, [row[0] for row in waiting]),
            "clique_id": (pa.string(), False, [row[1] for row in waiting]),
            "frames": (pa.uint32(), False, [len(row[2]) // 2 // BINS for row in waiting]),
            "source_hash": (pa.string(), False, [hashlib.blake2b(row[2], digest_size=16).hexdigest() for row in waiting]),
            "magnitude": (pa.binary(), False, [row[2] for row in waiting]),
        }
        content = b"".join(row[2] for row in waiting)
        write(folder / f"part-{parts:05}.parquet", columns, provenance("features/1", shown, content))
        parts, waiting = parts + 1, []

    jobs = [
        (song, songs[song], arguments.versions if split_of[song] == "train" else 3, arguments.seconds, arguments.seed)
        for song in chosen
    ]
    with multiprocessing.Pool(arguments.jobs) as pool:
        for song, made in zip(chosen, pool.imap(versions_of, jobs, chunksize=4)):
            for number, magnitude in enumerate(made):
                rows.append((f"{song}_{number}", song, split_of[song]))
                waiting.append((f"{song}_{number}", song, magnitude))
            if len(waiting) >= ROWS_A_PART:
                end_part()
    if waiting:
        end_part()
    text = {
        "version_id": [row[0] for row in rows],
        "clique_id": [row[1] for row in rows],
        "title": [row[1] for row in rows],
        "performer": ["painted"] * len(rows),
        "split": [row[2] for row in rows],
    }
    columns = {name: (pa.string(), False, values) for name, values in text.items()}
    none = [None] * len(rows)
    columns["source_url"] = (pa.string(), True, none)
    columns["audio_path"] = (pa.string(), True, [str(arguments.source)] * len(rows))
    columns["status"] = (pa.string(), False, ["ok"] * len(rows))
    columns["reason"] = (pa.string(), True, none)
    columns["duration_s"] = (pa.float64(), True, [arguments.seconds] * len(rows))
    columns["sample_rate"] = (pa.uint32(), True, none)
    columns["channels"] = (pa.uint32(), True, none)
    columns["codec"] = (pa.string(), True, none)
    columns["bytes"] = (pa.uint64(), True, none)
    columns["content_hash"] = (pa.string(), True, none)
    write(arguments.out / "index.parquet", columns, provenance("index/1", shown, repr(rows).encode()))
    count = {split: sum(row[2] == split for row in rows) for split in ("train", "val")}
    print(f"{count['train']} training and {count['val']} validation versions of {len(chosen)} songs in {arguments.out}")


if __name__ == "__main__":
    main()
