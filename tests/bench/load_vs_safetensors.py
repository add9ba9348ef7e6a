"""Loads one bf16 safetensors file from the page cache with loadstone, with plain preads and with
safetensors.torch.load_file, in turn, and prints medians and ratios.

    tests/bench/load_vs_safetensors.sh [--gigabytes N] [--rounds N] [--build DIR] [--json FILE]

load_file maps the file and reads nothing until a tensor is used; "read whole" copies every tensor
once (clone), which is what using the model costs at least.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def bench(program, folder, gigabytes):
    """One run of load_bench: seconds by side. The file it makes stays for the next."""
    report = os.path.join(folder, "report.json")
    subprocess.run([program, "--gigabytes", str(gigabytes), "--runs", "1", "--keep", "--dir",
                    folder, "--json", report], check=True, stdout=subprocess.DEVNULL)
    with open(report) as file:
        return json.load(file)


def load_file(path, whole):
    from safetensors.torch import load_file as load

    began = time.perf_counter()
    tensors = load(path)
    if whole:
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    seconds = time.perf_counter() - began
    del tensors
    return seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--build", default=os.path.join(PROJECT, "build/release"))
    parser.add_argument("--json")
    options = parser.parse_args()
    program = os.path.join(options.build, "bin/load_bench")
    if not os.path.exists(program):
        sys.exit(f"{program} is missing: cmake --build {options.build} --target load_bench")
    sides, nbytes = {}, 0
    with tempfile.TemporaryDirectory(prefix="loadstone-bench-") as folder:
        for _ in range(options.rounds):
            report = bench(program, folder, options.gigabytes)
            nbytes = report["bytes"]
            for name, side in report["sides"].items():
                sides.setdefault(name, []).append(side["seconds"])
            path = os.path.join(folder, "loadstone-load-bench.safetensors")
            sides.setdefault("load_file", []).append(load_file(path, False))
            sides.setdefault("load_file, read whole", []).append(load_file(path, True))
    medians = {name: statistics.median(values) for name, values in sides.items()}
    plain = min(seconds for name, seconds in medians.items() if "pages" in name)
    print(f"{nbytes} bytes, median of {options.rounds}")
    for name, seconds in medians.items():
        print(f"{name:34} {seconds:8.3f} s {nbytes / seconds / 1e9:7.2f} GB/s "
              f"{plain / seconds:6.2f} of the best plain")
    ratio = medians["load_file, read whole"] / medians["loadstone"]
    print(f"loadstone is {ratio:.2f} times as fast as load_file reading the whole file")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"bytes": nbytes, "seconds": medians, "runs": sides}, file, indent=2)


if __name__ == "__main__":
    main()
