"""The decoder of policy/decoder.ts in eager PyTorch 1.13, written to be fast there.

Query, key and value share one matrix and so do gate and up; the cache is allocated once; the softmax runs in place where
no gradient needs its input. Scaled dot product attention in one op came only with PyTorch 2.
"""
import json
import math
import struct

import torch
import torch.nn.functional as F


def read_safetensors(path):
    """Name -> float32 tensor. The format: 8 bytes of header length, a JSON header, then the bytes of all tensors."""
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        data = bytearray(file.read())
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        flat = torch.frombuffer(data, dtype=torch.float32, count=(end - begin) // 4, offset=begin)
        tensors[name] = flat.reshape(entry["shape"]).clone()
    return tensors


class Decoder(torch.nn.Module):
    def __init__(self, folder):
        super().__init__()
        with open(f"{folder}/config.json") as file:
            config = json.load(file)
        self.layers = config["num_hidden_layers"]
        self.heads = config["num_attention_heads"]
        self.width = config["hidden_size"]
        self.head_dim = config["head_dim"]
        self.epsilon = config["rms_norm_eps"]
        self.theta = config["rope_theta"]
        weights = read_safetensors(f"{folder}/model.safetensors")
        make = lambda tensor: torch.nn.Parameter(tensor.contiguous())
        self.embedding = make(weights["model.embed_tokens.weight"])
        self.norm = make(weights["model.norm.weight"])
        for layer in range(self.layers):
            at = f"model.layers.{layer}"
            parts = {
                "norm1": weights[f"{at}.input_layernorm.weight"],
                "qkv": torch.cat([weights[f"{at}.self_attn.{n}_proj.weight"] for n in "qkv"]),
                "out": weights[f"{at}.self_attn.o_proj.weight"],
                "norm2": weights[f"{at}.post_attention_layernorm.weight"],
                "gate_up": torch.cat([weights[f"{at}.mlp.{n}_proj.weight"] for n in ("gate", "up")]),
                "down": weights[f"{at}.mlp.down_proj.weight"],
            }
            setattr(self, f"layer{layer}", torch.nn.ParameterDict({k: make(v) for k, v in parts.items()}))

    def rms_norm(self, x, weight):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.epsilon) * weight

    def rope_tables(self, length):
        """Cosines and sines [length, E]; the sines of the first half carry the minus sign of the rotation."""
        half = self.head_dim // 2
        angles = torch.arange(length).unsqueeze(1) / self.theta ** (torch.arange(half) / half)
        return torch.cat([angles.cos(), angles.cos()], -1), torch.cat([-angles.sin(), angles.sin()], -1)

    def rotate(self, x, cos, sin):
        first, second = x.chunk(2, -1)
        return torch.addcmul(x * cos, torch.cat([second, first], -1), sin)

    def feed_forward(self, x, w):
        gate, up = F.linear(x, w["gate_up"]).chunk(2, -1)
        return F.linear(F.silu(gate) * up, w["down"])

    def forward(self, ids, cache=None):
        """Logits [B, T, V] of whole sequences; keys and values go to `cache` where there is one."""
        rows, length = ids.shape
        cos, sin = (table.view(length, 1, self.head_dim) for table in self.rope_tables(length))
        mask = torch.full((1, length, length), -math.inf).triu(1)
        x = F.embedding(ids, self.embedding)
        for layer in range(self.layers):
            w = getattr(self, f"layer{layer}")
            qkv = F.linear(self.rms_norm(x, w["norm1"]), w["qkv"])
            qkv = qkv.view(rows, length, 3 * self.heads, self.head_dim)
            # queries and keys turn in one op
            turned = self.rotate(qkv[:, :, : 2 * self.heads], cos, sin)
            q, k = (t.transpose(1, 2).reshape(rows * self.heads, length, self.head_dim) for t in turned.chunk(2, 2))
            v = qkv[:, :, 2 * self.heads :].transpose(1, 2).reshape(rows * self.heads, length, self.head_dim)
            if cache is not None:
                cache[layer][0][:, :length].copy_(k)
                cache[layer][1][:, :length].copy_(v)
            scores = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=1 / math.sqrt(self.head_dim))
            mixed = torch.bmm(torch.softmax(scores, -1), v).view(rows, self.heads, length, self.head_dim)
            x = x + F.linear(mixed.transpose(1, 2).reshape(rows, length, self.width), w["out"])
            x = x + self.feed_forward(self.rms_norm(x, w["norm2"]), w)
        return F.linear(self.rms_norm(x, self.norm), self.embedding)

    def new_cache(self, rows, length):
        """Per layer keys and values [B * H, C, E]."""
        shape = (rows * self.heads, length, self.head_dim)
        return [(torch.empty(shape), torch.empty(shape)) for _ in range(self.layers)]

    def step(self, ids, position, cache, cos, sin, attend):
        """Logits [B, V] after one more token of every row, all at the same position: no mask is needed."""
        rows = ids.shape[0]
        x = F.embedding(ids, self.embedding)
        c, s = cos[position], sin[position]
        for layer in range(self.layers):
            w = getattr(self, f"layer{layer}")
            qkv = F.linear(self.rms_norm(x, w["norm1"]), w["qkv"]).view(rows, 3 * self.heads, self.head_dim)
            turned = self.rotate(qkv[:, : 2 * self.heads], c, s)
            q, k = turned.chunk(2, 1)
            keys, values = cache[layer]
            keys[:, position] = k.reshape(rows * self.heads, self.head_dim)
            values[:, position] = qkv[:, 2 * self.heads :].reshape(rows * self.heads, self.head_dim)
            q = q.reshape(rows * self.heads, self.head_dim)
            mixed = attend(q, keys[:, : position + 1], values[:, : position + 1], 1 / math.sqrt(self.head_dim))
            x = x + F.linear(mixed.view(rows, self.width), w["out"])
            x = x + self.feed_forward(self.rms_norm(x, w["norm2"]), w)
        return F.linear(self.rms_norm(x, self.norm), self.embedding)


def attend_by_products(q, keys, values, scale):
    """Batched matrix products; without MKL, PyTorch 1.13 calls BLAS once for every head of every row."""
    scores = torch.bmm(keys, (q * scale).unsqueeze(2)).squeeze(2)
    return torch.bmm(torch.softmax(scores, -1).unsqueeze(1), values).squeeze(1)


def attend_by_sums(q, keys, values, scale):
    """Elementwise products and sums: more memory traffic, no call for each head."""
    scores = (keys * (q * scale).unsqueeze(1)).sum(2)
    return (values * torch.softmax(scores, -1).unsqueeze(2)).sum(1)


def attend_by_einsum(q, keys, values, scale):
    scores = torch.einsum("nce,ne->nc", keys, q * scale)
    return torch.einsum("nc,nce->ne", torch.softmax(scores, -1), values)


ATTENTION = {"products": attend_by_products, "sums": attend_by_sums, "einsum": attend_by_einsum}
