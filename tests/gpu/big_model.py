"""Writes a Qwen-Image folder with random weights at the transformer's real width.

    big_model.py EMOJI OUT [BLOCKS [LAYOUT]]      60 blocks: 20.4 B parameters, 41 GB in bf16

LAYOUT: blocks (a shard has 5 of them), one (file), forty (shards of equal length), dtype (one file,
vectors in float32 before all matrices, as writers order by dtype).

24 heads of 128, width 3072, MLP 12288; text encoder, VAE, tokenizer and scheduler are those of the
small model EMOJI, so joint_attention_dim is theirs (128 instead of 3584: 0.01 % of the parameters).
Every tensor is its own stretch of one random buffer: what is measured doesn't depend on values.
"""
import bisect
import itertools
import json
import math
import os
import shutil
import struct
import sys

import numpy as np

WIDTH, MLP, HEAD = 3072, 12288, 128
SHARD_BLOCKS = 5


def block_shapes(index):
    path = f"transformer_blocks.{index}."
    for name in ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "attn.add_q_proj",
                 "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"):
        yield path + name + ".weight", (WIDTH, WIDTH)
        yield path + name + ".bias", (WIDTH,)
    for name in ("attn.norm_q", "attn.norm_k", "attn.norm_added_q", "attn.norm_added_k"):
        yield path + name + ".weight", (HEAD,)
    for stream in ("img", "txt"):
        yield path + f"{stream}_mod.1.weight", (6 * WIDTH, WIDTH)
        yield path + f"{stream}_mod.1.bias", (6 * WIDTH,)
        yield path + f"{stream}_mlp.net.0.proj.weight", (MLP, WIDTH)
        yield path + f"{stream}_mlp.net.0.proj.bias", (MLP,)
        yield path + f"{stream}_mlp.net.2.weight", (WIDTH, MLP)
        yield path + f"{stream}_mlp.net.2.bias", (WIDTH,)


def other_shapes(latent, out, text):
    yield "img_in.weight", (WIDTH, latent)
    yield "img_in.bias", (WIDTH,)
    yield "txt_in.weight", (WIDTH, text)
    yield "txt_in.bias", (WIDTH,)
    yield "txt_norm.weight", (text,)
    yield "time_text_embed.timestep_embedder.linear_1.weight", (WIDTH, 256)
    yield "time_text_embed.timestep_embedder.linear_1.bias", (WIDTH,)
    yield "time_text_embed.timestep_embedder.linear_2.weight", (WIDTH, WIDTH)
    yield "time_text_embed.timestep_embedder.linear_2.bias", (WIDTH,)
    yield "norm_out.linear.weight", (2 * WIDTH, WIDTH)
    yield "norm_out.linear.bias", (2 * WIDTH,)
    yield "proj_out.weight", (4 * out, WIDTH)
    yield "proj_out.bias", (4 * out,)


def width(shape, layout):
    return 4 if layout == "dtype" and len(shape) == 1 else 2


def into_shards(tensors, blocks, layout):
    if layout == "one":
        return [tensors]
    if layout == "dtype":
        return [sorted(tensors, key=lambda tensor: len(tensor[1]) != 1)]
    if layout == "forty":
        sizes = list(itertools.accumulate(math.prod(shape) for _, shape in tensors))
        cuts = [bisect.bisect_left(sizes, sizes[-1] * i // 40) for i in range(1, 40)]
        return [tensors[a:b] for a, b in zip([0, *cuts], [*cuts, len(tensors)]) if a < b]
    each = len(tensors) // blocks * SHARD_BLOCKS
    return [tensors[at:at + each] for at in range(0, len(tensors), each)]


def write_shard(path, shapes, pool, layout):
    header, at = {}, 0
    for name, shape in shapes:
        nbytes = width(shape, layout) * math.prod(shape)
        dtype = "BF16" if width(shape, layout) == 2 else "F32"
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + nbytes]}
        at += nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for index, (_, shape) in enumerate(shapes):
            nbytes = width(shape, layout) * math.prod(shape)
            start = (index * 7919 * 2) % (len(pool) - nbytes) // 2 * 2
            out.write(pool[start:start + nbytes])
    return at


def main():
    small, out = sys.argv[1:3]
    blocks = int(sys.argv[3]) if len(sys.argv) > 3 else 60
    layout = sys.argv[4] if len(sys.argv) > 4 else "blocks"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(small, out, ignore=shutil.ignore_patterns("transformer"))
    os.mkdir(f"{out}/transformer")
    config = json.load(open(f"{small}/transformer/config.json"))
    config.update(num_layers=blocks, num_attention_heads=WIDTH // HEAD, attention_head_dim=HEAD,
                  axes_dims_rope=[16, 56, 56])
    json.dump(config, open(f"{out}/transformer/config.json", "w"), indent=1)
    values = np.random.default_rng(0).standard_normal(80_000_000, np.float32) * 0.02
    pool = memoryview((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())
    latent, picture, text = config["in_channels"], config["out_channels"], config["joint_attention_dim"]
    tensors = list(other_shapes(latent, picture, text))
    tensors += [tensor for b in range(blocks) for tensor in block_shapes(b)]
    shards = into_shards(tensors, blocks, layout)
    total, places = 0, {}
    for index, shapes in enumerate(shards):
        name = f"diffusion_pytorch_model-{index + 1:05}-of-{len(shards):05}.safetensors"
        total += write_shard(f"{out}/transformer/{name}", shapes, pool, layout)
        places.update({tensor: name for tensor, _ in shapes})
    json.dump({"metadata": {"total_size": total}, "weight_map": places},
              open(f"{out}/transformer/diffusion_pytorch_model.safetensors.index.json", "w"))
    print(f"wrote {out}: {blocks} blocks, {total / 1e9:.2f} GB, {len(shards)} files", flush=True)


main()
