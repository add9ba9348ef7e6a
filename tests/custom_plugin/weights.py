"""hadamard4's format, read by its definition (examples/custom_plugin/README.md) instead of its code:
weights computed from the written tensors equal those of `loadstone dequantize` within float32, and
lie near the model's own.

usage: weights.py MODEL QUANTIZED FLOATS"""
import json
import math
import pathlib
import struct
import sys

ROWS = 8  # of each layer
GROUP, ROTATION = 32, 128


class Tensors:
    """All tensors of a folder's safetensors files."""

    def __init__(self, folder):
        self.place = {}
        for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
            content = path.read_bytes()
            (length,) = struct.unpack_from("<Q", content)
            for name, entry in json.loads(content[8:8 + length]).items():
                if name != "__metadata__":
                    begin, end = entry["data_offsets"]
                    self.place[name] = (entry, content[8 + length + begin:8 + length + end])

    def row(self, name, row):
        """A row's values; U8 as they are."""
        entry, content = self.place[name]
        count = entry["shape"][1]
        if entry["dtype"] == "U8":
            return list(content[row * count:(row + 1) * count])
        if entry["dtype"] == "F32":
            return list(struct.unpack_from(f"<{count}f", content, 4 * row * count))
        assert entry["dtype"] == "BF16", entry
        bits = struct.unpack_from(f"<{count}H", content, 2 * row * count)
        return [struct.unpack("<f", struct.pack("<I", b << 16))[0] for b in bits]


def sylvester(i, j):
    return -1 if bin(i & j).count("1") % 2 else 1


def weight_row(tensors, module, row):
    codes = tensors.row(module + ".weight", row)
    scales = tensors.row(module + ".weight_scale", row)
    count = 2 * len(codes)
    turned = [((codes[c // 2] >> (c % 2 * 4)) % 16 - 8) * scales[c // GROUP] for c in range(count)]
    size = min(ROTATION, count & -count)
    out = []
    for c in range(count):
        block = c - c % size
        out.append(sum(sylvester(c % size, i) * turned[block + i] for i in range(size))
                   / math.sqrt(size))
    return out


def main(model, quantized, floats):
    plain = Tensors(pathlib.Path(model) / "transformer")
    coded = Tensors(pathlib.Path(quantized) / "transformer")
    decoded = Tensors(floats)
    modules = [name[:-len(".weight_scale")] for name in coded.place
               if name.endswith(".weight_scale")]
    assert modules, "nothing is quantized"
    noise = signal = 0.0
    for module in sorted(modules):
        for row in range(ROWS):
            expected = weight_row(coded, module, row)
            found = decoded.row(module + ".weight", row)
            limit = 1e-5 * max(map(abs, expected))
            assert all(abs(a - b) <= limit for a, b in zip(expected, found)), (module, row)
            truth = plain.row(module + ".weight", row)
            noise += sum((a - b) ** 2 for a, b in zip(found, truth))
            signal += sum(b * b for b in truth)
    error = math.sqrt(noise / signal)
    print(f"{len(modules)} modules, relative RMS error {error:.3f}")
    assert 0.01 < error < 0.15, error


main(*sys.argv[1:])
