"""What others load a folder's transformer at: safetensors' load_file, fastsafetensors if it is here.

    peers.py MODEL
"""
import glob
import os
import sys
import time

import torch


def safetensors(files):
    from safetensors.torch import load_file
    for file in files:
        load_file(file, device="cuda:0")


def fastsafetensors(files):
    from fastsafetensors import SafeTensorsFileLoader, SingleGroup
    loader = SafeTensorsFileLoader(SingleGroup(), "cuda:0", nogds=True, disable_cache=False)
    loader.add_filenames({0: files})
    buffers = loader.copy_files_to_device()
    torch.cuda.synchronize()
    buffers.close()
    loader.close()


def main():
    files = sorted(glob.glob(f"{sys.argv[1]}/transformer/*.safetensors"))
    total = sum(os.path.getsize(file) for file in files)
    torch.empty(1, device="cuda:0")
    for name, load in (("safetensors load_file", safetensors), ("fastsafetensors", fastsafetensors)):
        try:
            best = 0.0
            for _ in range(2):
                start = time.time()
                load(files)
                torch.cuda.synchronize()
                best = max(best, total / (time.time() - start))
                torch.cuda.empty_cache()
            print(f"{name:34} {best / 1e9:6.1f} GB/s", flush=True)
        except ImportError as missing:
            print(f"{name:34} SKIPPED: {missing}")


main()
