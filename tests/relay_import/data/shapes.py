"""Shapes, indices and images."""

from __future__ import annotations

from registry import NHWC, X, case, const, simple
from tvm import relay

# -- shapes -------------------------------------------------------------------------------------------------

simple("reshape", lambda x: relay.reshape(x, (0, -1, 5)), x=X)
simple("reshape-special", lambda x: relay.reshape(x, (-4, 1, -1, -3, -2)), x=X)
simple("reshape_like", relay.reshape_like, x=X, y=(1, 24, 5))
simple("transpose", lambda x: relay.transpose(x, (0, 2, 3, 1)), x=X)
simple("transpose-all", lambda x: relay.transpose(x), x=X)
simple("squeeze", lambda x: relay.squeeze(x), x=(1, 4, 1, 5))
simple("squeeze-axis", lambda x: relay.squeeze(x, [2]), x=(1, 4, 1, 5))
simple("expand_dims", lambda x: relay.expand_dims(x, 1, 2), x=(3, 5))
simple("expand_dims-last", lambda x: relay.expand_dims(x, -1), x=(3, 5))
simple("concatenate", lambda x, y: relay.concatenate([x, y], 1), x=X, y=(1, 2, 6, 5))
simple("stack", lambda x, y: relay.stack([x, y], -1), x=X, y=X)
simple("split", lambda x: relay.split(x, 2, 1).astuple(), x=X)
simple("split-at", lambda x: relay.split(x, [1, 3], 2).astuple(), x=X)
simple("strided_slice", lambda x: relay.strided_slice(x, [0, 1, -3], [1, 10, -1], [1, 2, 1]), x=X)
simple("strided_slice-size", lambda x: relay.strided_slice(x, [0, 1, 2], [-1, 2, 3], slice_mode="size"), x=X)
simple("strided_slice-back", lambda x: relay.strided_slice(x, [0, 3], [1, -10], [1, -2]), x=X)
simple("strided_slice-axes", lambda x: relay.strided_slice(x, [1], [4], axes=[2]), x=X)
simple("slice_like", lambda x, y: relay.slice_like(x, y, axes=(1, 2)), x=X, y=(1, 3, 2, 5))
simple("tile", lambda x: relay.tile(x, (2, 1, 1, 3)), x=X)
simple("repeat", lambda x: relay.repeat(x, 2, 1), x=X)
simple("reverse", lambda x: relay.reverse(x, 2), x=X)
simple("broadcast_to", lambda x: relay.broadcast_to(x, (2, 4, 5)), x=(4, 1))
simple("broadcast_to_like", relay.broadcast_to_like, x=(4, 1), y=(2, 4, 5))
simple("layout_transform", lambda x: relay.layout_transform(x, "NCHW", "NHWC"), x=X)
simple("nn.pad", lambda x: relay.nn.pad(x, ((0, 0), (0, 1), (1, 2), (2, 0)), 0.5), x=X)
simple("nn.pad-edge", lambda x: relay.nn.pad(x, ((0, 0), (0, 0), (1, 2), (2, 0)), pad_mode="edge"), x=X)
simple("nn.pad-reflect", lambda x: relay.nn.pad(x, ((0, 0), (0, 0), (1, 2), (2, 0)), pad_mode="reflect"), x=X)
simple("nn.mirror_pad", lambda x: relay.nn.mirror_pad(x, ((0, 0), (0, 0), (1, 2), (2, 0))), x=X)
simple("nn.depth_to_space", lambda x: relay.nn.depth_to_space(x, 2), x=(1, 8, 3, 2))
simple("nn.depth_to_space-crd", lambda x: relay.nn.depth_to_space(x, 2, mode="CRD"), x=(1, 8, 3, 2))
simple("nn.space_to_depth", lambda x: relay.nn.space_to_depth(x, 2), x=(1, 3, 4, 6))


# -- indices ------------------------------------------------------------------------------------------------


@case("take", x=X)
def _(r, x):
    return relay.take(x, const([2, 0, 9, -1], "int32"), axis=1)


@case("take-flat", x=X)
def _(r, x):
    return relay.take(x, const([[2, 0], [9, 119]], "int32"))


@case("gather", x=(3, 4))
def _(r, x):
    return relay.gather(x, 1, const([[2, 0], [1, 1], [3, 0]], "int32"))


@case("gather_nd", x=(3, 4, 2))
def _(r, x):
    return relay.gather_nd(x, const([[0, 2, 1], [3, 1, 0]], "int32"))


@case("one_hot", x=("index", (2, 3)))
def _(r, x):
    return relay.one_hot(x, const(1.0), const(0.25), 5, -1, "float32")


simple("argsort", lambda x: relay.argsort(x, 1), x=(3, 7))
simple("argsort-down", lambda x: relay.argsort(x, 0, is_ascend=False, dtype="int64"), x=(3, 7))
simple("sort", lambda x: relay.sort(x, 1, is_ascend=False), x=(3, 7))
simple("topk", lambda x: relay.topk(x, 3, 1).astuple(), x=(3, 7))
simple("topk-values", lambda x: relay.topk(x, 2, 1, "values", True), x=(3, 7))
simple("cumsum", lambda x: relay.cumsum(x, 1), x=(3, 7))
simple("cumsum-exclusive", lambda x: relay.cumsum(x, 0, exclusive=True), x=("int32", (3, 7)))


@case("scatter_elements", x=(3, 4))
def _(r, x):
    return relay.scatter_elements(x, const([[2, 0, 1, 0]], "int64"), const(r.normal(size=(1, 4))), 0, "add")


@case("scatter_nd", x=(3, 4, 2))
def _(r, x):
    return relay.scatter_nd(x, const([[0, 2, 1], [3, 1, 0]], "int64"), const(r.normal(size=(3, 2))), "add")


@case("scatter", x=(3, 4))
def _(r, x):
    return relay.scatter(x, const([[2, 0, 1, -1]], "int64"), const(r.normal(size=(1, 4))), 0)


@case("scatter_add", x=(3, 4))
def _(r, x):
    return relay.scatter_add(x, const([[2], [0], [-1]], "int64"), const(r.normal(size=(3, 1))), 1)


@case("adv_index", x=(5, 4, 3))
def _(r, x):
    return relay.adv_index([x, const([[4], [0]], "int64"), const([1, 3, 2], "int64")])


@case("adv_index-one", x=(5, 4, 3))
def _(r, x):
    return relay.adv_index([x, const([[4, 1], [0, 2]], "int64")])


simple("meshgrid", lambda x, y: relay.meshgrid([x, y]).astuple(), x=(3,), y=(4,))
simple("meshgrid-xy", lambda x, y: relay.meshgrid([x, y], "xy").astuple(), x=(3,), y=(4,))
simple("einsum", lambda x, y: relay.einsum([x, y], "bij,bkj->bik"), x=(2, 3, 4), y=(2, 5, 4))


# -- images -------------------------------------------------------------------------------------------------


def resize(name, shape=X, size=(9, 7), **options):
    simple(name, lambda x: relay.image.resize2d(x, size, roi=(0.0,) * 4, **options), x=shape)


resize("image.resize2d")
resize("image.resize2d-align", coordinate_transformation_mode="align_corners")
resize("image.resize2d-nhwc", NHWC, layout="NHWC")
resize(
    "image.resize2d-nearest",
    method="nearest_neighbor",
    coordinate_transformation_mode="asymmetric",
    rounding_method="floor",
)
resize("image.resize2d-cubic", method="cubic", cubic_alpha=-0.75)


def sample(name, **options):
    simple(name, lambda x, y: relay.image.grid_sample(x, y, **options), x=X, y=("unit", (1, 2, 3, 4)))


sample("image.grid_sample")
sample("image.grid_sample-border", padding_mode="border", align_corners=False)
sample("image.grid_sample-nearest", method="nearest")
simple("nn.upsampling", lambda x: relay.nn.upsampling(x, 2, 3), x=X)
simple("nn.upsampling-bilinear", lambda x: relay.nn.upsampling(x, 2, 2, method="bilinear"), x=X)
simple(
    "nn.upsampling-corners",
    lambda x: relay.nn.upsampling(x, 2, 2, method="bilinear", align_corners=True),
    x=X,
)
