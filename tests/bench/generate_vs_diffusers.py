"""Draws the same picture with loadstone and with diffusers, in turn, and prints medians and ratios.

    tests/bench/generate_vs_diffusers.sh [--rounds N] [--steps N] [--json FILE]

Per round, one after the other on an otherwise idle machine:
  warm  diffusers: one more call of a pipeline that has drawn before, in a process that stays;
        loadstone: one measured run after one warm-up run, unquantized and with fp8, as
        `loadstone compare` times them (text encoding, all steps, VAE decode).
  cold  whole processes from exec to the PNG written, page cache warm.
Both sides use float32 and the same number of threads.
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
PROMPT, NEGATIVE, SCALE, SEED, SIZE = "a cup of coffee on the table", " ", 4.0, 0, 128
LIMITS = {"warm_ratio": 0.8, "fp8_ratio": 1.5, "cold_ratio": 0.2}


def load_peer(model):
    import torch
    from diffusers import QwenImagePipeline

    torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
    pipeline = QwenImagePipeline.from_pretrained(model, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)

    def draw(steps):
        return pipeline(PROMPT, negative_prompt=NEGATIVE, true_cfg_scale=SCALE, height=SIZE,
                        width=SIZE, num_inference_steps=steps,
                        generator=torch.Generator("cpu").manual_seed(SEED)).images[0]

    return draw


def peer_worker(model, steps):
    """Draws once per line on stdin and answers with the seconds it took."""
    draw = load_peer(model)
    draw(steps)
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        draw(steps)
        print(time.perf_counter() - began, flush=True)


def timed(command, env):
    began = time.perf_counter()
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--model", default=os.path.join(PROJECT, "examples/models/emoji"))
    parser.add_argument("--loadstone", default=os.path.join(PROJECT, "build/release/bin/loadstone"))
    parser.add_argument("--json", help="write all figures here")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--once", metavar="PNG", help=argparse.SUPPRESS)
    args = parser.parse_args()

    os.environ["BENCH_THREADS"] = str(args.threads)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    if args.worker:
        return peer_worker(args.model, args.steps)
    if args.once:
        return load_peer(args.model)(args.steps).save(args.once)

    env = dict(os.environ)
    own = [sys.executable, os.path.abspath(__file__), "--model", args.model, "--threads",
           str(args.threads), "--steps", str(args.steps)]
    worker = subprocess.Popen(own + ["--worker"], env=env, stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if worker.stdout.readline().strip() != "ready":
        sys.exit("the diffusers process did not start")
    times = {name: [] for name in ("peer_warm", "warm", "fp8_warm", "peer_cold", "cold")}
    with tempfile.TemporaryDirectory() as scratch:
        result, png = os.path.join(scratch, "r.json"), os.path.join(scratch, "p.png")
        common = ["--threads", str(args.threads), "--width", str(SIZE), "--height", str(SIZE),
                  "--num-inference-steps", str(args.steps), "--seed", str(SEED),
                  "--prompt", PROMPT, "--negative-prompt", NEGATIVE]
        compare = [args.loadstone, "compare", "--model", args.model, *common, "--cfg-scale",
                   str(SCALE), "--candidate-quantization", "fp8", "--warmup-runs", "1",
                   "--measure-runs", "1", "--output-json", result]
        generate = [args.loadstone, "generate", args.model, *common, "--true-cfg-scale",
                    str(SCALE), "--output", png]
        timed(generate, env)
        timed(own + ["--once", png], env)
        for number in range(args.rounds):
            worker.stdin.write("draw\n")
            worker.stdin.flush()
            times["peer_warm"].append(float(worker.stdout.readline()))
            timed(compare, env)
            with open(result, encoding="utf-8") as file:
                figures = json.load(file)
            times["warm"].append(figures["reference_generation"]["generation_time_s"])
            times["fp8_warm"].append(figures["candidate_generation"]["generation_time_s"])
            times["cold"].append(timed(generate, env))
            if number < 3:
                times["peer_cold"].append(timed(own + ["--once", png], env))
            print(f"round {number + 1} of {args.rounds}", file=sys.stderr)
    worker.stdin.close()
    worker.wait()

    median = {name: statistics.median(values) for name, values in times.items()}
    ratio = {"warm_ratio": median["warm"] / median["peer_warm"],
             "fp8_ratio": median["fp8_warm"] / median["warm"],
             "cold_ratio": median["cold"] / median["peer_cold"]}
    for name, value in median.items():
        low, high = min(times[name]), max(times[name])
        print(f"{name:10} median {value:7.3f} s  ({low:.3f} to {high:.3f}, {len(times[name])} runs)")
    for name, value in ratio.items():
        print(f"{name:10} {value:.3f}  (aim: at most {LIMITS[name]})")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"seconds": times, "median": median, "ratio": ratio,
                       "threads": args.threads, "steps": args.steps}, file, indent=2)


if __name__ == "__main__":
    main()
