#!/usr/bin/env python3
"""make_png.py FILE HEIGHT WIDTH VALUE: a PNG whose samples all are VALUE; folders are made."""
import os
import struct
import sys
import zlib


def chunk(kind, content):
    crc = zlib.crc32(kind + content)
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', crc)


path, height, width, value = sys.argv[1], *map(int, sys.argv[2:5])
os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
rows = (b'\0' + bytes([value]) * 3 * width) * height
with open(path, 'wb') as out:
    out.write(b'\x89PNG\r\n\x1a\n')
    out.write(chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)))
    out.write(chunk(b'IDAT', zlib.compress(rows)))
    out.write(chunk(b'IEND', b''))
