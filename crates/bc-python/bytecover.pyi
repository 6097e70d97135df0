"""Cover song identification: transform, features, networks, search, metrics, alignment."""

import os
from collections.abc import Sequence
from typing import Any, Literal, Union

import numpy as np
import numpy.typing as npt

_Path = Union[str, "os.PathLike[str]"]
_Array = npt.NDArray[Any]

__version__: str

def cqt(source: Union[_Path, _Array], sample_rate: int = 22050, pool: int = 1) -> npt.NDArray[np.float32]:
    """Constant-Q magnitudes, (84, frames): 84 semitones from C1 (32.7 Hz), one column per 512 * pool samples at 22,050 Hz.

    source: path of an audio file, or mono samples (1-D, full scale is 1) at `sample_rate` Hz.
    """

def features(path: _Path, pool: int = 5) -> npt.NDArray[np.float16]:
    """A file's features, (84, frames): magnitudes averaged over `pool` frames (116 ms for 5)."""

class Network:
    """A trained network."""

    @staticmethod
    def load(path: _Path, layer: Literal["f_c", "f_t", "logits"] = "f_c") -> Network:
        """Loads a checkpoint of bc-train, or a public .pt."""

    @property
    def dim(self) -> int:
        """Length of an embedding."""

    @property
    def pool(self) -> int:
        """Frames averaged into one column of the network's input."""

    @property
    def scale(self) -> str:
        """How a clip is scaled before it passes the network."""

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the weights."""

    def embed(self, source: Union[_Path, _Array], pool: Union[int, None] = None) -> npt.NDArray[np.float32]:
        """The embedding of a whole recording, (dim,), not scaled to any length.

        source: path of an audio file, or magnitudes (bins, frames) averaged over `pool` frames (the network's own if None).
        """

class Index:
    """An index of recordings, open to be searched."""

    @staticmethod
    def open(
        path: _Path,
        network: Union[_Path, None] = None,
        calibration: Union[_Path, None] = None,
        prior: float = 0.05,
        whole: bool = False,
    ) -> Index:
        """Opens an index that `bc-search add` made, or a file of embeddings of bc-eval.

        network: its network, a file or the folder of a bundle; needed to search for audio files, and, as a bundle, for probabilities.
        prior: the probability, before the scores are known, that the index holds a query's work. whole: compare whole recordings only.
        """

    @property
    def dim(self) -> int:
        """Length of an embedding."""

    def __len__(self) -> int:
        """Number of recordings."""

    def search(self, queries: Union[_Path, list[_Path], _Array], k: int = 10) -> list[dict[str, Any]]:
        """The k likeliest works for each query: `query`, `hits`, `probability_of_none`.

        queries: path of an audio file or of a recording of the index, a list of paths, or embeddings (dim,) or (queries, dim).
        """

def metrics(
    x: Union[_Array, Sequence[Sequence[float]]],
    labels: Union[Sequence[Any], _Array],
    policy: Literal["default", "orfium", "clews", "coverhunter", "cqtnet", "re-move", "discogs-vinet"] = "default",
    distances: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """mAP, MR1, MRR, hit@1, hit@10, P@10, NAR of every version against all others, with intervals and chance.

    x: embeddings (versions, dim), or with distances=True distances (versions, versions). labels: the clique of each version.
    """

class Alignment:
    """How two recordings match."""

    @property
    def key_shift(self) -> int:
        """Semitones that the second recording sounds above the first, -5 to 6."""

    @property
    def tempo_ratio(self) -> float:
        """Tempo of the second recording over that of the first."""

    @property
    def score(self) -> float:
        """Higher the longer they match; not a probability."""

    @property
    def sections(self) -> list[tuple[float, float, float, float]]:
        """Matched sections: start_a, end_a, start_b, end_b in seconds."""

    @property
    def path(self) -> npt.NDArray[np.float64]:
        """Times in seconds in the first and the second recording, (points, 2)."""

def align(a: Union[_Path, _Array], b: Union[_Path, _Array], pool: int = 5) -> Alignment:
    """Key shift, tempo ratio and matched sections of two recordings.

    a, b: paths of audio files, or magnitudes (84, frames) averaged over `pool` frames.
    """
