"""Make ``nets-*.json.xz`` and check full-size networks: relay.testing's networks and Relay's own results.

Run it in an environment with Relay, as ``make_operators.py``:

    python make_nets.py small OUTPUT.json.xz   # small inputs, for the tests
    python make_nets.py full FOLDER            # as relay.testing has them, for tests/relay_import/nets.py

Weights are not stored: both sides draw them from the names of the inputs (:func:`weight`). With such weights
a softmax is nearly one-hot and would hide differences, so what a last softmax takes is a second output.
"""

from __future__ import annotations

import base64
import json
import lzma
import sys
import zlib
from pathlib import Path

import numpy as np
import tvm
from tvm import relay
from tvm.contrib import graph_executor
from tvm.relay import testing
from tvm.relay.testing import resnet_3d

TARGET = "llvm -mtriple=x86_64-linux-gnu"


def weight(name, shape):
    """Values of a weight: small enough that activations stay near one, variances positive."""
    r = np.random.RandomState(zlib.crc32(name.encode()))
    if len(shape) > 1:
        fan = int(np.prod(shape[1:]))
        return (r.standard_normal(shape) * (2.0 / fan) ** 0.5).astype("float32")
    if "var" in name:
        return r.uniform(0.5, 1.5, shape).astype("float32")
    return (r.uniform(0.8, 1.2, shape) if "gamma" in name else r.normal(0, 0.1, shape)).astype("float32")


FULL = {
    "resnet18": lambda: testing.resnet.get_workload(num_layers=18),
    "resnet50": lambda: testing.resnet.get_workload(num_layers=50),
    "resnet18-3d": lambda: resnet_3d.get_workload(num_layers=18),
    "mobilenet": lambda: testing.mobilenet.get_workload(),
    "mobilenet-nhwc": lambda: testing.mobilenet.get_workload(layout="NHWC"),
    "squeezenet": lambda: testing.squeezenet.get_workload(),
    "squeezenet1.1": lambda: testing.squeezenet.get_workload(version="1.1"),
    "mlp": lambda: testing.mlp.get_workload(1),
    "vgg11": lambda: testing.vgg.get_workload(1, num_layers=11),
    "vgg16-bn": lambda: testing.vgg.get_workload(1, num_layers=16, batch_norm=True),
    "densenet121": lambda: testing.densenet.get_workload(),
    "inception_v3": lambda: testing.inception_v3.get_workload(),
    "dcgan": lambda: testing.dcgan.get_workload(1),
    "dqn": lambda: testing.dqn.get_workload(1),
}


def dense_net():
    """DenseNet with two layers a block and few channels."""
    function = testing.densenet._make_dense_net(16, 8, (2, 2, 2, 2), (1, 3, 224, 224), "float32", classes=10)
    return testing.create_workload(function)


def inception(width=8):
    """Inception v3 with an eighth of its channels; its last pool takes 8x8 pixels, so the image stays."""
    conv = testing.inception_v3.Conv
    testing.inception_v3.Conv = lambda data, num_filter, **kw: conv(data, num_filter // width, **kw)
    try:
        return testing.inception_v3.get_workload(num_classes=10)
    finally:
        testing.inception_v3.Conv = conv


SMALL = {
    "mlp": lambda: testing.mlp.get_workload(1),
    "dqn": lambda: testing.dqn.get_workload(1),
    "dcgan": lambda: testing.dcgan.get_workload(1, ngf=16),
    "vgg11": lambda: testing.vgg.get_workload(1, image_shape=(3, 32, 32), num_layers=11, num_classes=10),
    "densenet": dense_net,
    "squeezenet": lambda: testing.squeezenet.get_workload(image_shape=(3, 48, 48), num_classes=10),
    "mobilenet": lambda: testing.mobilenet.get_workload(image_shape=(3, 32, 32), num_classes=10),
    "resnet18": lambda: testing.resnet.get_workload(num_layers=18, image_shape=(3, 32, 32), num_classes=10),
    "mobilenet-nhwc": lambda: testing.mobilenet.get_workload(
        image_shape=(32, 32, 3), num_classes=10, layout="NHWC"
    ),
    "inception_v3": inception,
}


def prepared(mod, params):
    """The module typed, its parameters drawn, an input."""
    main = mod["main"]
    if isinstance(main.body, relay.Call) and main.body.op.name == "nn.softmax":
        both = relay.Tuple([main.body, main.body.args[0]])
        mod = tvm.IRModule.from_expr(relay.Function(main.params, both))
    mod = relay.transform.InferType()(mod)
    values, inputs = {}, {}
    for var in mod["main"].params:
        shape = tuple(int(d) for d in var.checked_type.shape)
        if var.name_hint in params:
            values[var.name_hint] = weight(var.name_hint, shape)
        else:
            r = np.random.RandomState(zlib.crc32(var.name_hint.encode()))
            inputs[var.name_hint] = r.uniform(-1, 1, shape).astype("float32")
    return mod, values, inputs


def run(mod, params, inputs):
    library = relay.build(mod, target=TARGET, params=params)
    module = graph_executor.GraphModule(library["default"](tvm.cpu()))
    module.run(**inputs)
    return [module.get_output(k).numpy() for k in range(module.get_num_outputs())]


def seen(outputs):
    return [(o.shape, float(np.abs(o).max())) for o in outputs]


def packed(array):
    return {
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "data": base64.b64encode(np.ascontiguousarray(array).tobytes()).decode(),
    }


def small(path):
    old = json.loads(lzma.decompress(Path(path).read_bytes()))["nets"] if Path(path).exists() else []
    nets = list(old)
    for name, make in SMALL.items():  # the file is whole after each, and a second run goes on
        if name in {net["name"] for net in nets}:
            continue
        mod, params, inputs = prepared(*make())
        outputs = run(mod, params, inputs)
        nets.append(
            {
                "name": name,
                "json": tvm.ir.save_json(mod),
                "inputs": {k: list(v.shape) for k, v in inputs.items()},
                "params": {k: list(v.shape) for k, v in params.items()},
                "outputs": [packed(o) for o in outputs],
            }
        )
        print(name, seen(outputs), flush=True)
        text = json.dumps({"tvm": tvm.__version__, "nets": nets})
        Path(path).write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


def full(folder, only=""):
    for name, make in FULL.items():
        if not name.startswith(only):
            continue
        mod, params, inputs = prepared(*make())
        outputs = run(mod, params, inputs)
        base = Path(folder) / name
        base.with_name(base.name + ".json").write_text(tvm.ir.save_json(mod))
        arrays = {f"output{k}": o for k, o in enumerate(outputs)}
        np.savez(base.with_name(base.name + ".npz"), **arrays, **inputs)
        base.with_name(base.name + ".params").write_bytes(relay.save_param_dict(params))
        print(name, seen(outputs), flush=True)


if __name__ == "__main__":
    {"small": small, "full": full}[sys.argv[1]](*sys.argv[2:])
