"""What a bare loop reaches: threads, preads into pinned slots, copies overlapped, nothing else.

    bare_loop.py MODEL      beside it: one pinned copy, safetensors' load_file
"""
import glob
import os
import sys
import threading
import time

import torch

SLOT = 4 << 20


def pinned_rate():
    host = torch.empty(1 << 28, dtype=torch.uint8, pin_memory=True)
    card = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")
    card.copy_(host, non_blocking=True)
    torch.cuda.synchronize()
    start = time.time()
    for _ in range(8):
        card.copy_(host, non_blocking=True)
    torch.cuda.synchronize()
    return 8 * len(host) / (time.time() - start)


def bare_rate(files, workers):
    pieces = [(f, at, min(SLOT, os.path.getsize(f) - at))
              for f in files for at in range(0, os.path.getsize(f), SLOT)]
    total = sum(n for _, _, n in pieces)
    card = torch.empty(total, dtype=torch.uint8, device="cuda")
    places, at = [], 0
    for _, _, n in pieces:
        places.append(at)
        at += n
    handles = {f: os.open(f, os.O_RDONLY) for f in files}
    counter, lock = iter(range(len(pieces))), threading.Lock()
    slots = [[torch.empty(SLOT, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
             for _ in range(workers)]

    def work(own):
        stream = torch.cuda.Stream()
        events = [torch.cuda.Event() for _ in own]
        views = [slot.numpy() for slot in own]
        turn = 0
        while True:
            with lock:
                i = next(counter, None)
            if i is None:
                break
            file, offset, n = pieces[i]
            events[turn].synchronize()
            os.preadv(handles[file], [memoryview(views[turn])[:n]], offset)
            with torch.cuda.stream(stream):
                card[places[i]:places[i] + n].copy_(own[turn][:n], non_blocking=True)
                events[turn].record(stream)
            turn = (turn + 1) % len(own)
        stream.synchronize()

    start = time.time()
    threads = [threading.Thread(target=work, args=(own,)) for own in slots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torch.cuda.synchronize()
    return total / (time.time() - start)


def main():
    files = sorted(glob.glob(f"{sys.argv[1]}/transformer/*.safetensors"))
    print(f"pinned copy            {pinned_rate() / 1e9:6.1f} GB/s")
    for workers in (4, 8, 16):
        print(f"bare loop, {workers:2} threads  {bare_rate(files, workers) / 1e9:6.1f} GB/s", flush=True)
        torch.cuda.empty_cache()
    from safetensors.torch import load_file
    start, total = time.time(), 0
    for file in files:
        total += os.path.getsize(file)
        load_file(file, device="cuda:0")
    torch.cuda.synchronize()
    print(f"safetensors load_file  {total / (time.time() - start) / 1e9:6.1f} GB/s")


main()
