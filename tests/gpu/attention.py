"""Draws the small model's 16 pictures on the GPU with attention in e4m3 and without, and compares.

    attention.py LOADSTONE MODEL f32|bf16 WORK

Limits: mean of the 16 pictures at least 33 dB against native attention, and not equal to it; every
step or every layer left out: every picture equal, byte for byte. Programs run eight at a time.
"""
import concurrent.futures
import os
import subprocess
import sys

import numpy as np
from PIL import Image

CASES = [("a cup of coffee on the table", 0, 4.0, " "), ("a cat and a dog on the grass", 7, 4.0, " "),
         ("a red heart on a black background", 3, 1.0, None),
         ("an owl at night", 42, 2.5, "a cat on the grass")]
PICTURES = [(prompt, seed + more, scale, negative) for prompt, seed, scale, negative in CASES
            for more in (0, 100, 200, 300)]
STEPS = 20
FORMS = [("fp8", "{kv_cache_dtype: fp8}"),
         ("fp8 from step 5 on", '{kv_cache_dtype: fp8, skip_steps: "0-4"}'),
         ("fp8 in the last block", '{kv_cache_dtype: fp8, skip_layers: "0-2"}'),
         ("no step", f'{{kv_cache_dtype: fp8, skip_steps: "0-{STEPS - 1}"}}'),
         ("no layer", '{kv_cache_dtype: fp8, skip_layers: "0-3"}')]


def draw(program, config, compute, picture, output):
    prompt, seed, scale, negative = picture
    command = [program, "generate", "--config", config, "--device", "cuda:0", "--compute", compute,
               "--prompt", prompt, "--seed", str(seed), "--true-cfg-scale", str(scale),
               "--height", "128", "--width", "128", "--num-inference-steps", str(STEPS),
               "--output", output]
    if negative is not None:
        command += ["--negative-prompt", negative]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    calls = [line.split("attention: ")[1] for line in done.stderr.splitlines() if "attention: " in line]
    return np.asarray(Image.open(output).convert("RGB"), np.float64), calls[-1] if calls else ""


def draw_all(program, model, compute, attention, work):
    config = os.path.join(work, "attention.yaml")
    with open(config, "w") as file:
        file.write(f'version: 1\nmodel: "{os.path.abspath(model)}"\n')
        file.write(f"attention: {attention}\n" if attention else "")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        drawn = [pool.submit(draw, program, config, compute, picture,
                             os.path.join(work, f"attention-{i}.png"))
                 for i, picture in enumerate(PICTURES)]
        return [one.result() for one in drawn]


def decibels(a, b):
    return min(10 * np.log10(255.0**2 / max(float(((a - b) ** 2).mean()), 1e-9)), 100.0)


def main():
    program, model, compute, work = sys.argv[1:]
    native = draw_all(program, model, compute, "", work)
    failed = 0
    for name, attention in FORMS:
        drawn = draw_all(program, model, compute, attention, work)
        each = [decibels(a, b) for (a, _), (b, _) in zip(drawn, native)]
        same = sum(np.array_equal(a, b) for (a, _), (b, _) in zip(drawn, native))
        mean = float(np.mean(each))
        expected = len(PICTURES) if name.startswith("no ") else 0
        good = mean >= 33 and same == expected
        failed += not good
        print(f"attention {compute}, {name:<22} mean {mean:.1f} dB, worst {min(each):.1f}, equal {same} "
              f"of {len(each)}, {drawn[0][1]} {'ok' if good else 'FAILED'}", flush=True)
    return 3 if failed else 0


sys.exit(main())
