"""Tensor names and shapes of a Qwen-Image folder's VAE and text encoder, and configurations of their
real sizes (127 M and 8.3 B parameters).

    big_parts.py MODEL      compares the rules with a real folder's headers, by its own configurations
"""
import json
import struct
import sys

VAE = {"base_dim": 96, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "z_dim": 16,
       "temperal_downsample": [False, True, True]}
TEXT = {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064}
MROPE = [16, 24, 24]
VISION = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16,
          "in_channels": 3, "out_hidden_size": 3584, "patch_size": 14, "spatial_merge_size": 2,
          "temporal_patch_size": 2, "fullatt_block_indexes": [7, 15, 23, 31]}


def biased(path, shape):
    yield path + ".weight", shape
    yield path + ".bias", (shape[0],)


def residual(path, before, after):
    yield path + ".norm1.gamma", (before, 1, 1, 1)
    yield from biased(path + ".conv1", (after, before, 3, 3, 3))
    yield path + ".norm2.gamma", (after, 1, 1, 1)
    yield from biased(path + ".conv2", (after, after, 3, 3, 3))
    if before != after:
        yield from biased(path + ".conv_shortcut", (after, before, 1, 1, 1))


def middle(path, width):
    yield from residual(path + ".resnets.0", width, width)
    yield path + ".attentions.0.norm.gamma", (width, 1, 1)
    yield from biased(path + ".attentions.0.to_qkv", (3 * width, width, 1, 1))
    yield from biased(path + ".attentions.0.proj", (width, width, 1, 1))
    yield from residual(path + ".resnets.1", width, width)


def vae_decoder(c):
    widths = [c["base_dim"] * m for m in [c["dim_mult"][-1], *reversed(c["dim_mult"])]]
    yield from biased("post_quant_conv", (c["z_dim"], c["z_dim"], 1, 1, 1))
    yield from biased("decoder.conv_in", (widths[0], c["z_dim"], 3, 3, 3))
    yield from middle("decoder.mid_block", widths[0])
    over_time = [*reversed(c["temperal_downsample"])]
    for s, after in enumerate(widths[1:]):
        before = widths[s] // 2 if s else widths[s]
        path = f"decoder.up_blocks.{s}"
        for b in range(c["num_res_blocks"] + 1):
            yield from residual(f"{path}.resnets.{b}", after if b else before, after)
        if s + 2 < len(widths):
            yield from biased(f"{path}.upsamplers.0.resample.1", (after // 2, after, 3, 3))
            if over_time[s]:
                yield from biased(f"{path}.upsamplers.0.time_conv", (2 * after, after, 3, 1, 1))
    yield "decoder.norm_out.gamma", (widths[-1], 1, 1, 1)
    yield from biased("decoder.conv_out", (3, widths[-1], 3, 3, 3))


def vae_encoder(c):
    widths = [c["base_dim"] * m for m in [1, *c["dim_mult"]]]
    yield from biased("encoder.conv_in", (widths[0], 3, 3, 3, 3))
    index = 0
    for s, after in enumerate(widths[1:]):
        for b in range(c["num_res_blocks"]):
            yield from residual(f"encoder.down_blocks.{index}", after if b else widths[s], after)
            index += 1
        if s + 2 < len(widths):
            path = f"encoder.down_blocks.{index}"
            yield from biased(path + ".resample.1", (after, after, 3, 3))
            if c["temperal_downsample"][s]:
                yield from biased(path + ".time_conv", (after, after, 3, 1, 1))
            index += 1
    yield from middle("encoder.mid_block", widths[-1])
    yield "encoder.norm_out.gamma", (widths[-1], 1, 1, 1)
    yield from biased("encoder.conv_out", (2 * c["z_dim"], widths[-1], 3, 3, 3))
    yield from biased("quant_conv", (2 * c["z_dim"], 2 * c["z_dim"], 1, 1, 1))


def vae_shapes(c):
    yield from vae_encoder(c)
    yield from vae_decoder(c)


def text_shapes(text, vision):
    width, inner = text["hidden_size"], text["intermediate_size"]
    keys = width // text["num_attention_heads"] * text["num_key_value_heads"]
    yield "model.embed_tokens.weight", (text["vocab_size"], width)
    for layer in range(text["num_hidden_layers"]):
        path = f"model.layers.{layer}."
        yield path + "input_layernorm.weight", (width,)
        yield path + "post_attention_layernorm.weight", (width,)
        for name, out in (("q", width), ("k", keys), ("v", keys)):
            yield from biased(f"{path}self_attn.{name}_proj", (out, width))
        yield path + "self_attn.o_proj.weight", (width, width)
        yield path + "mlp.gate_proj.weight", (inner, width)
        yield path + "mlp.up_proj.weight", (inner, width)
        yield path + "mlp.down_proj.weight", (width, inner)
    yield "model.norm.weight", (width,)
    yield "lm_head.weight", (text["vocab_size"], width)
    seen, inner = vision["hidden_size"], vision["intermediate_size"]
    yield "visual.patch_embed.proj.weight", (seen, vision["in_channels"],
                                             vision["temporal_patch_size"],
                                             vision["patch_size"], vision["patch_size"])
    for block in range(vision["depth"]):
        path = f"visual.blocks.{block}."
        yield path + "norm1.weight", (seen,)
        yield path + "norm2.weight", (seen,)
        yield from biased(path + "attn.qkv", (3 * seen, seen))
        yield from biased(path + "attn.proj", (seen, seen))
        yield from biased(path + "mlp.gate_proj", (inner, seen))
        yield from biased(path + "mlp.up_proj", (inner, seen))
        yield from biased(path + "mlp.down_proj", (seen, inner))
    merged = seen * vision["spatial_merge_size"] ** 2
    yield "visual.merger.ln_q.weight", (seen,)
    yield from biased("visual.merger.mlp.0", (merged, merged))
    yield from biased("visual.merger.mlp.2", (vision["out_hidden_size"], merged))


def stored_shapes(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    return {name: tuple(one["shape"]) for name, one in header.items() if name != "__metadata__"}


def check(model):
    config = json.load(open(f"{model}/text_encoder/config.json"))
    parts = {"vae/diffusion_pytorch_model": vae_shapes(json.load(open(f"{model}/vae/config.json"))),
             "text_encoder/model": text_shapes(config["text_config"], config["vision_config"])}
    for name, rule in parts.items():
        found, made = stored_shapes(f"{model}/{name}.safetensors"), dict(rule)
        wrong = sorted(set(found.items()) ^ set(made.items()))
        print(f"{name}: {len(found)} tensors, {len(wrong)} differ", *wrong[:4])
        if wrong:
            sys.exit(3)


if __name__ == "__main__":
    check(sys.argv[1])
