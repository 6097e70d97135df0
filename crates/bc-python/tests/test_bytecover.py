"""Compares the module with the stages' programs, NumPy and the README. `just wheel` runs it in a fresh environment."""

import json
import os
import re
import shutil
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest

import bytecover

PROJECT = Path(__file__).resolve().parents[3]
NETWORK = PROJECT / "configs/networks/default/network.safetensors"
RATE = 22050


def song(seed, seconds, tempo=1.0, key=0):
    """Chords with a melody, a new one every half second."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds / tempo * RATE)) / RATE
    beat = (time * tempo / 0.5).astype(int)
    total = np.zeros_like(time)
    roots = np.repeat(rng.integers(0, 7, 1 + beat.max() // 2), 2)
    melody = rng.integers(0, 7, 2 + beat.max())
    scale = np.array([0, 2, 4, 5, 7, 9, 11])
    for voice in (roots, roots + 2, roots + 4, melody):
        note = 48 + key + scale[voice % 7] + 12 * (voice // 7) + (24 if voice is melody else 0)
        hertz = 440 * 2 ** ((note[beat] - 69) / 12)
        phase = 2 * np.pi * np.cumsum(hertz) / RATE
        total += np.sin(phase) + 0.4 * np.sin(2 * phase)
    return (0.1 * total).astype(np.float32)


def write(path, samples):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("songs")
    return [write(folder / "one.wav", song(1, 60)), write(folder / "other.wav", song(1, 60, tempo=1.1, key=3))]


def program(name):
    path = PROJECT / "target/release" / name
    if not path.exists():
        pytest.skip(f"no {path}: cargo build --release")
    return path


def test_cqt_equals_bc_features(songs, tmp_path):
    subprocess.run([program("bc-features"), "cqt", songs[0], "--out", tmp_path / "x.npy"], check=True, stdout=subprocess.DEVNULL)
    expected = np.load(tmp_path / "x.npy")
    found = bytecover.cqt(songs[0])
    assert found.dtype == np.float32 and found.shape == (84, 1 + len(song(1, 60)) // 512)
    assert np.array_equal(found, expected)


def test_cqt_of_samples_equals_cqt_of_file(songs):
    samples = np.round(song(1, 60) * 32767).astype(np.float32) / 32768
    assert np.allclose(bytecover.cqt(samples), bytecover.cqt(str(songs[0])), atol=1e-4)
    assert np.array_equal(bytecover.cqt(samples.astype(np.float64)), bytecover.cqt(samples))
    twice = np.repeat(samples, 2)
    assert bytecover.cqt(twice, sample_rate=2 * RATE).shape == bytecover.cqt(samples).shape
    # A sine of full scale in the middle of a bin.
    sine = np.sin(2 * np.pi * 440 * np.arange(5 * RATE) / RATE)
    assert bytecover.cqt(sine)[:, 100].argmax() == 45


def test_features_are_means_of_columns_in_16_bits(songs):
    x, found = bytecover.cqt(songs[0]), bytecover.features(songs[0], pool=5)
    assert found.dtype == np.float16 and found.flags.writeable
    count = x.shape[1] // 5
    expected = x[:, : 5 * count].reshape(84, count, 5).mean(2)
    assert found.shape == expected.shape and np.allclose(found, expected, atol=1e-5, rtol=1e-3)
    assert np.array_equal(bytecover.features(songs[0], 20), bytecover.features(songs[0], pool=20))


def test_a_network_embeds_files_and_features(songs):
    network = bytecover.Network.load(NETWORK)
    assert (network.dim, network.pool, network.scale) == (256, 20, "log-centred") and "ring" in repr(network)
    one, other = (network.embed(path) for path in songs)
    assert one.shape == (256,) and one.dtype == np.float32
    # The network was trained on features that were pooled by 20 at once.
    assert np.allclose(network.embed(bytecover.features(songs[0], pool=20)), one, atol=1e-5)
    assert np.allclose(network.embed(bytecover.features(songs[0], pool=5), pool=5), one, atol=1e-2)
    unrelated = network.embed(bytecover.cqt(song(9, 60)), pool=1)
    cosine = lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert cosine(one, other) > cosine(one, unrelated)
    assert bytecover.Network.load(str(NETWORK), layer="f_t").embed(songs[0]).shape == (256,)
    assert len(network.fingerprint) == 16


def test_embeddings_equal_bc_eval(songs, tmp_path):
    network = bytecover.Network.load(NETWORK)
    columns = bytecover.features(songs[0], pool=20).astype(np.float32)
    share = columns / (columns.max() + 1e-6)
    scaled = np.log1p(1000 * share) / np.log(1001)
    np.save(tmp_path / "x.npy", (scaled - scaled.mean())[None].astype(np.float32))
    arguments = ["embed", "--checkpoint", NETWORK, "--npy", tmp_path / "x.npy", "--out", tmp_path / "y.npy"]
    subprocess.run([program("bc-eval"), *arguments], check=True, capture_output=True)
    expected = np.load(tmp_path / "y.npy")[0]
    assert np.linalg.norm(network.embed(songs[0]) - expected) < 1e-5 * np.linalg.norm(expected)


def plain_map(distances, labels):
    precisions = []
    for query in range(len(labels)):
        order = [other for other in np.argsort(distances[query], kind="stable") if other != query]
        hits = [rank for rank, other in enumerate(order, 1) if labels[other] == labels[query]]
        if hits:
            precisions.append(np.mean([number / rank for number, rank in enumerate(hits, 1)]))
    return np.mean(precisions)


@pytest.fixture(scope="module")
def index(songs, tmp_path_factory):
    path = tmp_path_factory.mktemp("index") / "songs.index"
    third = write(songs[0].parent / "unlike.wav", song(9, 60))
    add = [program("bc-search"), "add", songs[0], third, "--index", path, "--network", NETWORK.parent]
    subprocess.run(add, check=True, stdout=subprocess.DEVNULL)
    return path


def test_index_answers_as_bc_search(songs, index):
    command = [program("bc-search"), "search", songs[1], "--index", index, "--network", NETWORK.parent, "--json"]
    expected = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    opened = bytecover.Index.open(index, network=NETWORK.parent)
    (answer,) = opened.search(songs[1])
    assert answer == expected and 0 < answer["probability_of_none"] < 1
    assert [hit["title"] for hit in answer["hits"]] == ["one", "unlike"] and len(opened) == 2 and "2 recordings" in repr(opened)
    assert len(opened.search([songs[1], songs[0]], k=1)[1]["hits"]) == 1


def test_index_searches_embeddings_without_a_network(songs, index):
    opened = bytecover.Index.open(index)
    vectors = np.stack([bytecover.Network.load(NETWORK).embed(path) for path in songs])
    one, other = opened.search(vectors)
    assert one["hits"][0]["title"] == "one" and abs(one["hits"][0]["score"] - 1) < 1e-3 and one.get("probability_of_none") is None
    assert other["hits"][0]["score"] == opened.search(vectors[1])[0]["hits"][0]["score"]
    # Recordings of the index by their paths, themselves left out; files need the network.
    whole = bytecover.Index.open(index, network=NETWORK, whole=True)
    assert abs(whole.search(songs[1])[0]["hits"][0]["score"] - other["hits"][0]["score"]) < 1e-3
    for call, text in (
        (lambda: opened.search(np.zeros(7)), "256 finite numbers"),
        (lambda: opened.search("no such recording"), "no such recording"),
        (lambda: opened.search(songs[1]), "no network"),
        (lambda: opened.search(vectors, k=0), "at least 1"),
        (lambda: bytecover.Index.open(index, prior=2), "prior"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=text):
            call()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        bytecover.Index.open("nowhere")


def test_metrics_follow_the_definition():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(60, 8)).astype(np.float32), rng.integers(0, 15, 60)
    unit = x.astype(float) / np.linalg.norm(x, axis=1, keepdims=True)
    distances = 1 - unit @ unit.T
    found = bytecover.metrics(x, labels)
    assert abs(found["mAP"] - plain_map(distances, labels)) < 1e-6
    by_distance = bytecover.metrics(distances, [f"song {label}" for label in labels], distances=True)
    assert abs(by_distance["mAP"] - found["mAP"]) < 1e-6 and by_distance["queries"] == found["queries"]
    low, high = found["intervals"]["mAP"]
    assert low <= found["mAP"] <= high and 0 < found["chance"]["mAP"] < 0.2 and "cosine" in found["rules"]
    assert bytecover.metrics(np.asfortranarray(x), labels)["mAP"] == found["mAP"]
    assert "euclidean" in bytecover.metrics(x, labels, policy="orfium")["rules"]


def test_alignment_finds_key_tempo_and_sections(songs):
    for found in (bytecover.align(*songs), bytecover.align(*(bytecover.features(path) for path in songs))):
        assert found.key_shift == 3 and abs(found.tempo_ratio / 1.1 - 1) < 0.03
        assert sum(section[1] - section[0] for section in found.sections) > 45
        assert found.path.shape[1] == 2 and found.path.dtype == np.float64 and len(found.path) > 50
    unrelated = bytecover.align(songs[0], bytecover.features(write(songs[0].parent / "third.wav", song(5, 60))))
    assert unrelated.score < found.score


def test_errors_name_the_cause(songs, tmp_path):
    no_audio = tmp_path / "text.mp3"
    no_audio.write_text("no audio")
    for call in (lambda: bytecover.cqt("nowhere.wav"), lambda: bytecover.features("nowhere.wav"),
                 lambda: bytecover.Network.load("nowhere.safetensors"), lambda: bytecover.align("nowhere.wav", songs[0])):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            call()
    for call, text in (
        (lambda: bytecover.cqt(no_audio), "text.mp3"),
        (lambda: bytecover.cqt(np.zeros((2, 3))), "1 axes"),
        (lambda: bytecover.cqt(np.array([np.nan])), "finite"),
        (lambda: bytecover.cqt(songs[0], pool=0), "pool"),
        (lambda: bytecover.Network.load(no_audio), "text.mp3"),
        (lambda: bytecover.Network.load(NETWORK, layer="x"), "f_c"),
        (lambda: bytecover.Network.load(NETWORK).embed(np.zeros((12, 50))), "84 bins"),
        (lambda: bytecover.metrics(np.zeros((2, 3)), [1, 1], distances=True), "square"),
        (lambda: bytecover.metrics(np.ones((3, 3)), [1, 1]), "clique numbers"),
        (lambda: bytecover.metrics(np.ones((2, 3)), [1, 2]), "nothing can be measured"),
        (lambda: bytecover.metrics(np.ones((2, 3)), [1, 1], policy="x"), "no policy"),
        (lambda: bytecover.align(np.ones((84, 20)), np.ones((84, 200))), "too short"),
        (lambda: bytecover.align(-np.ones((84, 200)), np.ones((84, 200))), "negative"),
    ):
        with pytest.raises(ValueError, match=text):
            call()


def test_every_name_has_a_docstring_and_a_type():
    stub = (Path(__file__).resolve().parents[1] / "bytecover.pyi").read_text()
    for name in ("cqt", "features", "metrics", "align", "Network", "Index", "Alignment"):
        assert len(getattr(bytecover, name).__doc__) > 20, name
        assert re.search(rf"^(def|class) {name}\b", stub, re.M), name
    assert bytecover.cqt.__text_signature__ == "(source, sample_rate=22050, pool=1)"


def test_readme_examples_run(songs, index, tmp_path, monkeypatch):
    shutil.copytree(index, tmp_path / "songs.index")
    for path in songs:
        shutil.copy(path, tmp_path)
    shutil.copy(NETWORK, tmp_path)
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).resolve().parents[1] / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    exec(compile(code, "README.md", "exec"), {})
