"""Writes a model of the toy family, and tells what its plan must be.

usage: toy_model.py write FOLDER [original]    names of the family, or its original ones
       toy_model.py check PLAN.json METHOD     METHOD null: nothing is quantized"""
import json
import pathlib
import struct
import sys

WIDTH, STAGES = 64, 2
ORIGINAL = {"entry": "start", "mix.wq": "blend.q", "mix.wk": "blend.k", "mix.wv": "blend.v",
            "mix.wo": "blend.o", "grow": "ff.0", "shrink": "ff.1", "stages": "trunk"}


def write_tensors(path, shapes):
    header, content = {}, bytearray()
    for name, shape in shapes.items():
        count = 1
        for extent in shape:
            count *= extent
        begin = len(content)
        for i in range(count):  # bf16 numbers between -1 and 1
            value = struct.pack("<f", ((i * 7919 + len(name)) % 2001 - 1000) / 1000)
            content += value[2:]
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, len(content)]}
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)


def write(folder, names=""):
    folder = pathlib.Path(folder)
    shapes = {"entry.weight": [WIDTH, 16]}
    for stage in range(STAGES):
        for module in ("mix.wq", "mix.wk", "mix.wv", "mix.wo"):
            shapes[f"stages.{stage}.{module}.weight"] = [WIDTH, WIDTH]
        shapes[f"stages.{stage}.grow.weight"] = [2 * WIDTH, WIDTH]
        shapes[f"stages.{stage}.shrink.weight"] = [WIDTH, 2 * WIDTH]
    if names == "original":
        for family, original in ORIGINAL.items():
            shapes = {name.replace(family, original): shape for name, shape in shapes.items()}
    write_tensors(folder / "toy_denoiser" / "diffusion_pytorch_model.safetensors", shapes)
    write_tensors(folder / "toy_decoder" / "diffusion_pytorch_model.safetensors",
                  {"post.weight": [8, 8]})
    for component, kind in (("toy_denoiser", "ToyDenoiser"), ("toy_decoder", "ToyDecoder")):
        (folder / component / "config.json").write_text(json.dumps({"_class_name": kind}))
    (folder / "model_index.json").write_text(json.dumps(
        {"_class_name": "ToyPipeline", "toy_denoiser": ["diffusers", "ToyDenoiser"],
         "toy_decoder": ["diffusers", "ToyDecoder"]}))


def check(path, method):
    plan = json.loads(pathlib.Path(path).read_text())
    assert plan["family"] == "toy_family" and plan["family_known"], plan["family"]
    found = {(one["component"], one["layer"]):
             (one["method"] if one["decision"] == "quantize" else one["decision"],
              one["role"], len(one["parts"]), one["rule"]) for one in plan["layers"]}
    done = "keep" if method == "null" else method
    expected = {("toy_denoiser", "entry"): ("keep", "embedder", 1),
                ("toy_decoder", "post"): ("keep", "", 1)}
    for stage in range(STAGES):
        front = f"stages.{stage}."
        expected["toy_denoiser", front + "mix.wqkv"] = (done, "attention.qkv", 3)
        expected["toy_denoiser", front + "mix.wo"] = (done, "attention.out", 1)
        expected["toy_denoiser", front + "grow"] = (done, "mlp.up", 1)
        expected["toy_denoiser", front + "shrink"] = (done, "mlp.down", 1)
    assert {key: value[:3] for key, value in found.items()} == expected, found
    assert found["toy_denoiser", "entry"][3] == "default:io", found
    assert found["toy_decoder", "post"][3] == "default:component", found


{"write": write, "check": check}[sys.argv[1]](*sys.argv[2:])
