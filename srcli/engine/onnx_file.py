"""ONNX files from traced parts: converted, joined to one graph, quantised, run. Needs the extra `onnx`."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from srcli.errors import ResourceError
from srcli.models.sr import LARGE_FROM, SMALL_UP_TO

if TYPE_CHECKING:
    from srcli.engine.export import Array, Program

OPSET = 18
EXTRA = 'pip install "srcli[onnx]"'
FACTORS = {
    "encoder-small": ("Less", LARGE_FROM),
    "encoder": ("Greater", SMALL_UP_TO),
}  # where a body of two counts


def check_packages() -> None:
    """ResourceError where a package of the extra is missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401 - torch asks for it
    except ImportError as error:
        what = f"ONNX needs the package {error.name}."
        raise ResourceError(what, hint=f"Install the extra: {EXTRA}") from None


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def converted(program: Program, about: Mapping[str, str]) -> bytes:
    """A traced part as a file."""
    import onnx

    with _quiet():
        made = torch.onnx.export(
            program.traced, (), kwargs=program.example, dynamo=True, opset_version=OPSET,
            output_names=[program.output], verbose=False, optimize=False,
        )  # fmt: skip
    model = cast("Any", made).model_proto
    for node in model.graph.node:  # where in the source it comes from
        del node.metadata_props[:]
    del model.graph.value_info[:], model.graph.metadata_props[:]
    for value in [*model.graph.input, *model.graph.output]:
        del value.metadata_props[:]
        sides = value.type.tensor_type.shape.dim[2:]
        for side, word in zip(sides, ("height", "width"), strict=bool(sides)):
            side.dim_param = f"output_{word}" if value.name == "sr" else word
    model = onnx.load_from_string(_simplified(model.SerializeToString()))
    onnx.helper.set_model_props(model, dict(about))
    return cast("bytes", model.SerializeToString())


def _simplified(content: bytes) -> bytes:
    """Constants folded and what does nothing left out, by onnxruntime: onnxscript's own rules take minutes."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        settings.optimized_model_filepath = str(Path(folder) / "model.onnx")
        onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
        return Path(settings.optimized_model_filepath).read_bytes()


def compacted(content: bytes) -> bytes:
    """The same file, with weights that half precision holds exactly in it: half the size."""
    from onnx import TensorProto, helper, load_from_string, numpy_helper

    model = load_from_string(content)
    casts = []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if values.dtype == np.float32 and values.size > 64 and (half == values).all():
            casts.append(
                helper.make_node("Cast", [f"{weight.name}/half"], [weight.name], to=TensorProto.FLOAT)
            )
            weight.CopyFrom(numpy_helper.from_array(half, f"{weight.name}/half"))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return cast("bytes", model.SerializeToString())


def joined(parts: Mapping[str, bytes]) -> bytes:
    """The parts of a network as one graph; of two bodies those are run that count at the scale."""
    from onnx import TensorProto, compose, helper, load_from_string, numpy_helper

    models = {part: compose.add_prefix(load_from_string(each), f"{part}/") for part, each in parts.items()}
    decoder = models["decoder"].graph
    bodies = [part for part in parts if part != "decoder"]
    image = next(each for each in models[bodies[-1]].graph.input)
    image.name = "image"
    size = helper.make_tensor_value_info("size", TensorProto.INT64, [2])
    node, nodes, tables = helper.make_node, [], []

    def table(name: str, values: Any, dtype: Any) -> str:
        tables.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name

    nothing = table("nothing", [0, 0], np.int64)
    nodes.append(node("Shape", ["image"], ["whole"], start=2))
    nodes.append(node("Concat", [nothing, "size"], ["box"], axis=0))
    nodes += [node("Cast", [each], [f"{each}_float"], to=TensorProto.FLOAT) for each in ("size", "whole")]
    nodes.append(node("Div", ["size_float", "whole_float"], ["factors"]))
    nodes.append(node("ReduceMax", ["factors"], ["factor"], keepdims=0))
    for part in bodies:
        graph = models[part].graph
        nodes.append(node("Identity", ["image"], [f"{part}/image"]))
        if len(bodies) == 1:
            nodes += graph.node
            tables += graph.initializer
            continue
        channels = graph.output[0].type.tensor_type.shape.dim[1].dim_value
        absent = helper.make_graph(
            [
                node("Concat", [table(f"{part}/sides", [1, channels], np.int64), "whole"], [f"{part}/shape"], axis=0),
                node("ConstantOfShape", [f"{part}/shape"], [f"{part}/nothing"]),
            ],
            f"{part}/absent", [], [helper.make_tensor_value_info(f"{part}/nothing", TensorProto.FLOAT, None)],
        )  # fmt: skip
        del graph.input[:]
        compare, limit = FACTORS[part]
        nodes.append(node(compare, ["factor", table(f"{part}/limit", limit, np.float32)], [f"{part}/counts"]))
        output = graph.output[0].name
        inner = f"{output}/inner"
        for each in graph.node:
            each.output[:] = [inner if name == output else name for name in each.output]
            each.input[:] = [inner if name == output else name for name in each.input]
        graph.output[0].name = inner
        nodes.append(node("If", [f"{part}/counts"], [output], then_branch=graph, else_branch=absent))
    nodes.append(node("Concat", [f"{part}/features" for part in bodies], ["decoder/features"], axis=1))
    given = {"image": "image", "whole": "whole", "corner": nothing, "size": "size", "box": "box"}
    nodes += [node("Identity", [name], [f"decoder/{word}"]) for word, name in given.items()]
    decoder.output[0].name = "sr"
    nodes += [*decoder.node, node("Identity", ["decoder/sr"], ["sr"])]
    graph = helper.make_graph(nodes, "srcli", [image, size], decoder.output, [*tables, *decoder.initializer])
    model = helper.make_model(graph, opset_imports=models["decoder"].opset_import, producer_name="srcli")
    model.ir_version = models["decoder"].ir_version
    model.metadata_props.extend(models["decoder"].metadata_props)
    return cast("bytes", model.SerializeToString())


def quantised(content: bytes) -> bytes:
    """Convolutions and products in 8 bits, scaled as they run."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "int8.onnx"
        quantize_dynamic(onnx.load_from_string(content), path, weight_type=QuantType.QUInt8)
        return path.read_bytes()


def session(content: bytes) -> Callable[[Mapping[str, Array]], Array]:
    """What runs a file, on one processor."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    running = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    known = {each.name for each in running.get_inputs()}

    def call(given: Mapping[str, Array]) -> Array:
        return cast("Array", running.run(None, {key: each for key, each in given.items() if key in known})[0])

    return call
