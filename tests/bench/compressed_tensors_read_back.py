"""What `loadstone quantize` writes in layouts that are compressed-tensors' own (fp8 and int8 with a
scale a channel, packed e2m1), dequantized by that library: equal to `loadstone dequantize`, byte for
byte.

usage: $(tests/bench/peers.sh) compressed_tensors_read_back.py LOADSTONE MODEL
"""
import pathlib
import subprocess
import sys
import tempfile

import torch
from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import dequantize
from safetensors.torch import load_file

CHANNEL = {
    "fp8": QuantizationArgs(num_bits=8, type="float", strategy="channel"),
    "int8": QuantizationArgs(num_bits=8, type="int", strategy="channel"),
}


def weight_of(method, codes, scale):
    if method in CHANNEL:
        return dequantize(codes, scale.to(torch.float32), args=CHANNEL[method], dtype=torch.float32)
    rows, columns = codes.shape[0], 2 * codes.shape[1]
    values = unpack_fp4_from_uint8(codes, rows, columns, dtype=torch.float32)
    exponents = scale.to(torch.int32).repeat_interleave(32, 1)[:, :columns] - 127
    return torch.ldexp(values, exponents)


def check(loadstone, model, method, folder):
    written, floats = folder / "written", folder / "f32"
    for command in (["quantize", model, "--quantization", method, "--output", written],
                    ["dequantize", written, "--output", floats]):
        subprocess.run([loadstone, *map(str, command)], check=True, stdout=subprocess.DEVNULL)
    expected = load_file(floats / "transformer.safetensors")
    found = {}
    for path in (written / "transformer").glob("*.safetensors"):
        found.update(load_file(path))
    scales = [name for name in found if name.endswith(".weight_scale")]
    for name in scales:
        module = name.removesuffix(".weight_scale")
        weight = weight_of(method, found[module + ".weight"], found[name])
        if not torch.equal(weight, expected[module + ".weight"]):
            sys.exit(f"{method}: {module}.weight differs")
    if not scales:
        sys.exit(f"{method}: found no quantized weight")
    print(f"{method}: {len(scales)} weights equal")


for method_name in (*CHANNEL, "mxfp4"):
    with tempfile.TemporaryDirectory() as folder_name:
        check(sys.argv[1], sys.argv[2], method_name, pathlib.Path(folder_name))
