"""Layouts: a reshape or permutation of the real tensor that keeps the bytes, or None."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sd_tvm.relay_passes import _layout
from sd_tvm.relay_passes._layout import Layout


def memory(x: np.ndarray, layout: Layout) -> np.ndarray:
    """Bytes of a tensor in a layout, (N, CB, P, 16); lanes beyond C are -1."""
    n, c, p = layout.sizes(x.shape)
    unit = [a for a in range(x.ndim) if a not in layout.order]
    flat = x.transpose(*layout.order, *unit).reshape(n, c, p)
    padded = np.full((n, -(-c // 16) * 16, p), -1, x.dtype)
    padded[:, :c] = flat
    return padded.reshape(n, -1, 16, p).transpose(0, 1, 3, 2)


def same_bytes(a: np.ndarray, la: Layout, b: np.ndarray, lb: Layout) -> bool:
    one, two = memory(a, la), memory(b, lb)
    return one.size == two.size and bool((one.reshape(-1) == two.reshape(-1)).all())


def numbered(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)


def test_heads_of_tokens_are_no_code() -> None:
    x = numbered((2, 5, 64))
    tokens = _layout.channels_last(x.shape)
    split = _layout.reshaped(tokens, (2, 5, 64), (2, 5, 4, 16))
    assert split is not None
    heads = _layout.permuted(split, (0, 2, 1, 3))
    want = _layout.matrices((2, 4, 5, 16))
    assert want == Layout((0, 1), (3,), (2,))
    assert _layout.same_memory((2, 4, 5, 16), heads, want)
    assert same_bytes(x, tokens, x.reshape(2, 5, 4, 16).transpose(0, 2, 1, 3), want)
    # and back
    back = _layout.permuted(want, (0, 2, 1, 3))
    assert _layout.reshaped(back, (2, 5, 4, 16), (2, 5, 64)) == tokens


def test_heads_of_eight_channels_share_a_word() -> None:
    split = _layout.reshaped(Layout((), (2,), (1,)), (1, 5, 64), (1, 5, 8, 8))
    assert split == Layout((), (2, 3), (1,))
    assert not _layout.same_memory((1, 5, 8, 8), split, Layout((2,), (3,), (1,)))


def test_image_to_tokens() -> None:
    flat = _layout.reshaped(_layout.channels_first((1, 40, 4, 6)), (1, 40, 4, 6), (1, 40, 24))
    assert flat is not None
    assert _layout.permuted(flat, (0, 2, 1)) == _layout.channels_last((1, 24, 40))


def test_flatten_of_an_image_moves_data() -> None:
    assert _layout.reshaped(_layout.channels_first((1, 8, 4, 4)), (1, 8, 4, 4), (1, 128)) is None


@st.composite
def reshapes(draw: Any) -> tuple[tuple[int, ...], Layout, tuple[int, ...]]:
    old = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 4, 16, 32]), min_size=1, max_size=4)))
    order = draw(st.permutations(range(len(old))))
    cut = sorted(draw(st.integers(0, len(old))) for _ in range(2))
    layout = _layout.make(old, order[: cut[0]], order[cut[0] : cut[1]], order[cut[1] :])
    total, new = int(np.prod(old)), []
    while total > 1 and len(new) < 4:
        divisors = [d for d in range(1, total + 1) if total % d == 0]
        new.append(draw(st.sampled_from(divisors)))
        total //= new[-1]
    return old, layout, (*new, total)


@given(reshapes())
def test_a_layout_after_a_reshape_names_the_same_bytes(case: Any) -> None:
    old, layout, new = case
    found = _layout.reshaped(layout, old, new)
    if found is None:
        return
    x = numbered(old)
    assert same_bytes(x, layout, x.reshape(new), found)


@given(reshapes(), st.integers(0, 4), st.data())
def test_equal_memory_is_equal(case: Any, split: int, data: Any) -> None:
    shape, layout, _ = case
    outer = (*layout.batch, *layout.channels)
    split = min(split, len(outer))
    other = Layout(outer[:split], outer[split:], layout.pixels)
    x = numbered(shape)
    if _layout.same_memory(shape, layout, other):
        assert same_bytes(x, layout, x, other)
    order = data.draw(st.permutations(range(len(shape))))
    assert same_bytes(x, layout, x.transpose(order), _layout.permuted(layout, order))
