"""Writes a Qwen-Image folder with random weights at the transformer's real width.

    big_model.py EMOJI OUT [BLOCKS [LAYOUT [PART…]]]     60 blocks: 20.4 B parameters, 41 GB in bf16

LAYOUT: blocks (a shard has 5 of them), one (file), forty (shards of equal length), dtype (one file,
vectors in float32 before all matrices, as writers order by dtype).

24 heads of 128, width 3072, MLP 12288. PART: vae, text_encoder: these too at their real sizes (127 M
and 8.3 B parameters, 17 GB); otherwise they are the small model EMOJI's, and with the text encoder
joint_attention_dim (128 instead of 3584: 0.01 % of the parameters). Tokenizer and scheduler are
EMOJI's. Every tensor is its own stretch of one random buffer: what is measured doesn't depend on
values. The VAE's norms are ones, so that its pictures aren't flat.
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

import big_parts

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


def write_vae(out, pool):
    config = json.load(open(f"{out}/vae/config.json"))
    config.update(big_parts.VAE)
    json.dump(config, open(f"{out}/vae/config.json", "w"), indent=1)
    path = f"{out}/vae/diffusion_pytorch_model.safetensors"
    shapes = list(big_parts.vae_shapes(big_parts.VAE))
    total = write_shard(path, shapes, pool, "blocks")
    with open(path, "r+b") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        start = file.tell()
        for name, shape in shapes:
            if name.endswith("gamma"):
                file.seek(start + header[name]["data_offsets"][0])
                file.write(b"\x80\x3f" * math.prod(shape))
    return total


def write_text_encoder(out, pool):
    config = json.load(open(f"{out}/text_encoder/config.json"))
    config["text_config"].update(big_parts.TEXT)
    config["text_config"]["layer_types"] = ["full_attention"] * big_parts.TEXT["num_hidden_layers"]
    config["text_config"]["rope_parameters"]["mrope_section"] = big_parts.MROPE
    config["vision_config"].update(big_parts.VISION)
    json.dump(config, open(f"{out}/text_encoder/config.json", "w"), indent=1)
    return write_shard(f"{out}/text_encoder/model.safetensors",
                       list(big_parts.text_shapes(big_parts.TEXT, big_parts.VISION)), pool, "blocks")


def main():
    small, out = sys.argv[1:3]
    blocks = int(sys.argv[3]) if len(sys.argv) > 3 else 60
    layout = sys.argv[4] if len(sys.argv) > 4 else "blocks"
    parts = sys.argv[5:]
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(small, out, ignore=shutil.ignore_patterns("transformer"))
    os.mkdir(f"{out}/transformer")
    config = json.load(open(f"{small}/transformer/config.json"))
    config.update(num_layers=blocks, num_attention_heads=WIDTH // HEAD, attention_head_dim=HEAD,
                  axes_dims_rope=[16, 56, 56])
    if "text_encoder" in parts:
        config["joint_attention_dim"] = big_parts.TEXT["hidden_size"]
    json.dump(config, open(f"{out}/transformer/config.json", "w"), indent=1)
    values = np.random.default_rng(0).standard_normal(80_000_000, np.float32) * 0.02
    values = (values.view(np.uint32) >> 16).astype(np.uint16)
    if "text_encoder" in parts:  # an embedding is longer than that
        values = np.resize(values, 7 * len(values))
    pool = memoryview(values.tobytes())
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
    for part, write in (("vae", write_vae), ("text_encoder", write_text_encoder)):
        if part in parts:
            total += write(out, pool)
    print(f"wrote {out}: {blocks} blocks, {total / 1e9:.2f} GB, {len(shards)} files"
          + "".join(f", {part} at its size" for part in parts), flush=True)


main()
