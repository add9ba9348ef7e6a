"""What `loadstone quantize` writes, read by Python's safetensors and gguf: the weights computed from
its tensors by each format's definition (GGUF: by the package itself) equal those of `loadstone
dequantize` byte for byte, and GGUF blocks equal what the package makes of the model's floats.

usage: quantize_read_back.py LOADSTONE MODEL
Takes the packages of python_packages.sh where its own Python has none. Exits with 77 (skipped)
where both lack them."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

try:
    import gguf
    import numpy as np
    import safetensors
except ImportError as missing:
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    other = cache / "loadstone/python-readers/bin/python3"
    if other.exists() and str(other) != sys.executable:
        os.execv(other, [str(other), *sys.argv])
    print(f"skipped: {missing}: run tests/python_packages.sh")
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


def tensors_below(folder):
    found = {}
    for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
        found.update(tensors(path))
    return found


def write(loadstone, model, quantization, folder):
    """The written folder and the float32 tensors of its transformer."""
    written, floats = folder / "written", folder / "f32"
    for command in (["quantize", model, "--quantization", quantization, "--output", written],
                    ["dequantize", written, "--output", floats]):
        subprocess.run([loadstone, *map(str, command)], check=True, stdout=subprocess.DEVNULL)
    return written, tensors(floats / "transformer.safetensors")


def check(loadstone, model, method, folder):
    written, expected = write(loadstone, model, method, folder)
    found = tensors_below(written / "transformer")
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


def floats_of(dtype, shape, content):
    if dtype == "F32":
        return np.frombuffer(content, np.float32).reshape(shape)
    if dtype != "BF16":
        sys.exit(f"found {dtype} in the model, expected F32 or BF16")
    return (np.frombuffer(content, np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(shape)


def check_gguf(loadstone, model, kind, folder):
    quantization = json.dumps({"method": "gguf", "type": kind.name})
    written, expected = write(loadstone, model, quantization, folder)
    (path,) = (written / "transformer").glob("*.gguf")
    found = {t.name: t for t in gguf.GGUFReader(path).tensors}
    source = tensors_below(pathlib.Path(model) / "transformer")
    if found.keys() != source.keys() or found.keys() != expected.keys():
        sys.exit(f"{kind.name}: tensors differ: {sorted(found.keys() ^ source.keys())[:4]}")
    count = 0
    for name, tensor in found.items():
        dtype, shape, content = source[name]
        if list(reversed(tensor.shape.tolist())) != list(shape):
            sys.exit(f"{kind.name}: {name}: found shape {tensor.shape}, expected {shape}")
        blocks = tensor.data.tobytes()
        if tensor.tensor_type == kind:
            if blocks != gguf.quants.quantize(floats_of(dtype, shape, content), kind).tobytes():
                sys.exit(f"{kind.name}: blocks of {name} differ")
            count += 1
        elif blocks != content:
            sys.exit(f"{kind.name}: {name} differs from the model's")
        if gguf.quants.dequantize(tensor.data, tensor.tensor_type).tobytes() != expected[name][2]:
            sys.exit(f"{kind.name}: floats of {name} differ")
    if count == 0:
        sys.exit(f"{kind.name}: found no quantized weight")
    print(f"gguf {kind.name}: {count} weights of {len(found)} tensors equal")


for method_name in ("fp8", "int8", "mxfp8", "mxfp4"):
    with tempfile.TemporaryDirectory() as folder_name:
        check(sys.argv[1], sys.argv[2], method_name, pathlib.Path(folder_name))
for type_name in ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "TQ1_0", "TQ2_0", "MXFP4"):
    with tempfile.TemporaryDirectory() as folder_name:
        check_gguf(sys.argv[1], sys.argv[2], gguf.GGMLQuantizationType[type_name],
                   pathlib.Path(folder_name))
