#!/usr/bin/env python3
"""edit_tensors.py FOLDER OUT [drop NAME | rename OLD NEW | copy OLD NEW | turn NAME]...

Writes all safetensors of FOLDER into one file OUT, less a tensor, under another name, twice, or
with its extents in reverse order.
"""
import glob
import json
import os
import sys

folder, out, edits = sys.argv[1], sys.argv[2], sys.argv[3:]
tensors = {}
for path in sorted(glob.glob(os.path.join(folder, '*.safetensors'))):
    with open(path, 'rb') as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), 'little')))
        begin = file.tell()
        for name, entry in header.items():
            if name != '__metadata__':
                first, last = entry['data_offsets']
                file.seek(begin + first)
                tensors[name] = (entry['dtype'], entry['shape'], file.read(last - first))
while edits:
    what, name = edits.pop(0), edits.pop(0)
    dtype, shape, content = tensors.pop(name)
    if what == 'rename':
        tensors[edits.pop(0)] = (dtype, shape, content)
    elif what == 'turn':
        tensors[name] = (dtype, shape[::-1], content)
    elif what == 'copy':
        tensors[name] = tensors[edits.pop(0)] = (dtype, shape, content)
    elif what != 'drop':
        sys.exit(f'unknown edit: found "{what}", expected drop, rename, copy or turn')
header, offset = {}, 0
for name, (dtype, shape, content) in tensors.items():
    header[name] = {'dtype': dtype, 'shape': shape, 'data_offsets': [offset, offset + len(content)]}
    offset += len(content)
text = json.dumps(header).encode()
text += b' ' * (-len(text) % 8)
with open(out, 'wb') as file:
    file.write(len(text).to_bytes(8, 'little') + text)
    for _, _, content in tensors.values():
        file.write(content)
