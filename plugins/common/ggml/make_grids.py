#!/usr/bin/env python3
"""Writes grids.cpp from a safetensors file that holds the lookup grids of ggml's IQ types.

    ./make_grids.py ggml-grids.safetensors > grids.cpp

Needs iq2_xxs [256,8], iq2_xs [512,8], iq2_s [1024,8], iq3_xxs [256,4], iq3_s [512,4] and
iq1_s [2048,8] as I8. Each entry is packed into one little-endian integer, element 0 lowest.
"""
import json
import struct
import sys

GRIDS = {"iq2_xxs": (256, 8), "iq2_xs": (512, 8), "iq2_s": (1024, 8),
         "iq3_xxs": (256, 4), "iq3_s": (512, 4), "iq1_s": (2048, 8)}


def main():
    content = open(sys.argv[1], "rb").read()
    (header_nbytes,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8:8 + header_nbytes])
    body = content[8 + header_nbytes:]
    print("// Made by make_grids.py; the numbers are those of ggml (MIT licence, copyright the ggml")
    print("// authors), taken as facts of the file format.")
    print('#include "common/ggml/grids.hpp"\n')
    print("namespace loadstone::ggml {\n")
    print("// clang-format off")
    for name, (count, width) in GRIDS.items():
        tensor = header[name]
        if tensor["dtype"] != "I8" or tensor["shape"] != [count, width]:
            sys.exit(f"{name}: found {tensor['dtype']} {tensor['shape']}, expected I8 [{count}, {width}]")
        raw = body[tensor["data_offsets"][0]:tensor["data_offsets"][1]]
        if name == "iq1_s" and not set(raw) <= {0, 1, 255}:
            sys.exit("iq1_s: the decoders expect -1, 0 and 1 only")
        bits = 8 * width
        entries = [raw[i * width:(i + 1) * width][::-1].hex() for i in range(count)]
        print(f"const uint{bits}_t k{name.title().replace('_', '')}Grid[{count}] = {{")
        per_line = 4 if width == 8 else 8
        for i in range(0, count, per_line):
            print("    " + " ".join(f"0x{entry}," for entry in entries[i:i + per_line]))
        print("};\n")
    print("// clang-format on\n")
    print("}  // namespace loadstone::ggml")


main()
