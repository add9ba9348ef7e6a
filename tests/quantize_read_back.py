"""What `loadstone quantize` writes, read by Python's safetensors: the weights computed from its
tensors by each format's definition equal those of `loadstone dequantize` byte for byte.

usage: quantize_read_back.py LOADSTONE MODEL
Exits with 77 (skipped) where the packages safetensors and numpy are missing."""
import pathlib
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import safetensors
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)


def tensors(path):
    """Name → (dtype, shape, bytes) of a file, as the library reads it."""
    content = pathlib.Path(path).read_bytes()
    return {name: (t["dtype"], t["shape"], bytes(t["data"]))
            for name, t in safetensors.deserialize(content)}


def e4m3_values():
    out = np.empty(256, np.float32)
    for code in range(256):
        sign, exponent, mantissa = code >> 7, (code >> 3) & 15, code & 7
        value = mantissa * 2.0**-9 if exponent == 0 else (8 + mantissa) * 2.0 ** (exponent - 10)
        out[code] = np.nan if code & 127 == 127 else -value if sign else value
    return out


E4M3 = e4m3_values()
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def weight_of(own):
    """float32 weight from a module's tensors."""
    dtype, shape, content = own["weight"]
    codes = np.frombuffer(content, np.uint8)
    scale_dtype, scale_shape, scale_bytes = own["weight_scale"]
    if dtype in ("F8_E4M3", "I8") and scale_dtype == "F32":  # fp8 and int8, a scale a row
        values = E4M3[codes] if dtype == "F8_E4M3" else codes.view(np.int8).astype(np.float32)
        return values.reshape(shape) * np.frombuffer(scale_bytes, np.float32).reshape(-1, 1)
    if dtype == "F8_E4M3":
        values = E4M3[codes].reshape(shape)
    else:  # two values a byte, the lower half first
        values = E2M1[np.stack([codes & 15, codes >> 4], -1)].reshape(shape[0], -1)
    exponents = np.frombuffer(scale_bytes, np.uint8).reshape(scale_shape).astype(np.int32)
    groups = values.reshape(shape[0], exponents.shape[1], -1)
    return np.ldexp(groups, exponents[:, :, None] - 127).astype(np.float32).reshape(values.shape)


def check(loadstone, model, method, folder):
    written, floats = folder / method, folder / (method + "-f32")
    for command in (["quantize", model, "--quantization", method, "--output", written],
                    ["dequantize", written, "--output", floats]):
        subprocess.run([loadstone, *map(str, command)], check=True, stdout=subprocess.DEVNULL)
    found = {}
    for path in sorted((written / "transformer").glob("*.safetensors")):
        found.update(tensors(path))
    expected = tensors(floats / "transformer.safetensors")
    count = 0
    for name in found:
        if not name.endswith(".weight_scale"):
            continue
        module = name[: -len("weight_scale")]
        own = {n[len(module):]: t for n, t in found.items() if n.startswith(module)}
        if weight_of(own).tobytes() != expected[module + "weight"][2]:
            sys.exit(f"{method}: {module}weight differs")
        count += 1
    if count == 0:
        sys.exit(f"{method}: found no quantized weight")
    print(f"{method}: {count} weights equal")


with tempfile.TemporaryDirectory() as folder_name:
    for method_name in ("fp8", "int8", "mxfp8", "mxfp4"):
        check(sys.argv[1], sys.argv[2], method_name, pathlib.Path(folder_name))
