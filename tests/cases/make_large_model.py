#!/usr/bin/env python3
"""make_large_model.py FOLDER MIB: a sparse one-file model of that size, linear layers of zeros."""
import json
import os
import sys

folder, mib = sys.argv[1], int(sys.argv[2])
os.makedirs(folder)
with open(os.path.join(folder, 'config.json'), 'w', encoding='utf-8') as out:
    json.dump({'architectures': ['SomeModel']}, out)
header, offset = {}, 0
for layer in range(mib // 8):
    nbytes = 2048 * 2048 * 2
    header[f'layers.{layer}.proj.weight'] = {
        'dtype': 'BF16', 'shape': [2048, 2048], 'data_offsets': [offset, offset + nbytes]}
    offset += nbytes
text = json.dumps(header).encode()
text += b' ' * (-len(text) % 8)
with open(os.path.join(folder, 'model.safetensors'), 'wb') as out:
    out.write(len(text).to_bytes(8, 'little') + text)
    out.truncate(8 + len(text) + offset)
