"""The decoder of policy/decoder.ts in eager PyTorch, written to be fast there.

Query, key and value share one matrix and so do gate and up; the cache is allocated once. Shapes: B rows, T tokens, H query
heads, K key/value heads, G = H / K, E head width, C cache length. Scaled dot product attention in one op ("fused") came with
PyTorch 2; Debian's is 1.13.
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
    def __init__(self, folder, device="cpu"):
        super().__init__()
        with open(f"{folder}/config.json") as file:
            config = json.load(file)
        self.layers = config["num_hidden_layers"]
        self.heads = config["num_attention_heads"]
        self.kv_heads = config["num_key_value_heads"]
        self.group = self.heads // self.kv_heads
        self.width = config["hidden_size"]
        self.head_dim = config["head_dim"]
        self.scale = 1 / math.sqrt(self.head_dim)
        self.epsilon = config["rms_norm_eps"]
        self.theta = config["rope_theta"]
        self.device = device
        weights = read_safetensors(f"{folder}/model.safetensors")
        make = lambda tensor: torch.nn.Parameter(tensor.contiguous().to(device))
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
        tables = torch.cat([angles.cos(), angles.cos()], -1), torch.cat([-angles.sin(), angles.sin()], -1)
        return tuple(table.to(self.device) for table in tables)

    def rotate(self, x, cos, sin):
        first, second = x.chunk(2, -1)
        return torch.addcmul(x * cos, torch.cat([second, first], -1), sin)

    def feed_forward(self, x, w):
        gate, up = F.linear(x, w["gate_up"]).chunk(2, -1)
        return F.linear(F.silu(gate) * up, w["down"])

    def attend_all(self, q, k, v, mask):
        """Causal attention of q [B, H, T, E] to k, v [B, K, T, E]: [B, H, T, E]. Without a mask: in one op."""
        if mask is None:
            k, v = (t.repeat_interleave(self.group, 1) for t in (k, v))
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
        rows, _, length, _ = q.shape
        q = q.reshape(rows * self.kv_heads, self.group * length, self.head_dim)
        k, v = (t.reshape(rows * self.kv_heads, length, self.head_dim) for t in (k, v))
        scores = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=self.scale)
        return torch.bmm(torch.softmax(scores, -1), v).view(rows, self.heads, length, self.head_dim)

    def forward(self, ids, cache=None, fused=False):
        """Logits [B, T, V] of whole sequences; of the last token alone, [B, 1, V], with a `cache`, which takes keys and values."""
        rows, length = ids.shape
        cos, sin = (table.view(length, 1, self.head_dim) for table in self.rope_tables(length))
        mask = None
        if not fused:
            mask = torch.full((1, length, length), -math.inf, device=self.device).triu(1).repeat(1, self.group, 1)
        x = F.embedding(ids, self.embedding)
        for layer in range(self.layers):
            w = getattr(self, f"layer{layer}")
            qkv = F.linear(self.rms_norm(x, w["norm1"]), w["qkv"])
            qkv = qkv.view(rows, length, self.heads + 2 * self.kv_heads, self.head_dim)
            # queries and keys turn in one op
            turned = self.rotate(qkv[:, :, : self.heads + self.kv_heads], cos, sin).transpose(1, 2)
            q, k = turned.split([self.heads, self.kv_heads], 1)
            v = qkv[:, :, self.heads + self.kv_heads :].transpose(1, 2)
            if cache is not None:
                keys, values = cache[layer]
                keys.view(rows, self.kv_heads, -1, self.head_dim)[:, :, :length] = k
                values.view(rows, self.kv_heads, -1, self.head_dim)[:, :, :length] = v
            mixed = self.attend_all(q, k, v, mask)
            x = x + F.linear(mixed.transpose(1, 2).reshape(rows, length, self.heads * self.head_dim), w["out"])
            x = x + self.feed_forward(self.rms_norm(x, w["norm2"]), w)
        if cache is not None:
            x = x[:, -1:]
        return F.linear(self.rms_norm(x, self.norm), self.embedding)

    def new_cache(self, rows, length):
        """Per layer keys and values [B * K, C, E]."""
        shape = (rows * self.kv_heads, length, self.head_dim)
        return [tuple(torch.empty(shape, device=self.device) for _ in "kv") for _ in range(self.layers)]

    def step(self, ids, position, cache, cos, sin, attend):
        """Logits [B, V] after one more token of every row, all at the same position: no mask is needed."""
        rows = ids.shape[0]
        x = F.embedding(ids, self.embedding)
        c, s = cos[position], sin[position]
        for layer in range(self.layers):
            w = getattr(self, f"layer{layer}")
            qkv = F.linear(self.rms_norm(x, w["norm1"]), w["qkv"])
            qkv = qkv.view(rows, self.heads + 2 * self.kv_heads, self.head_dim)
            turned = self.rotate(qkv[:, : self.heads + self.kv_heads], c, s)
            q, k = turned.split([self.heads, self.kv_heads], 1)
            keys, values = cache[layer]
            keys[:, position] = k.reshape(rows * self.kv_heads, self.head_dim)
            values[:, position] = qkv[:, self.heads + self.kv_heads :].reshape(rows * self.kv_heads, self.head_dim)
            q = q.reshape(rows * self.kv_heads, self.group, self.head_dim)
            mixed = attend(q, keys[:, : position + 1], values[:, : position + 1], self.scale)
            x = x + F.linear(mixed.reshape(rows, self.heads * self.head_dim), w["out"])
            x = x + self.feed_forward(self.rms_norm(x, w["norm2"]), w)
        return F.linear(self.rms_norm(x, self.norm), self.embedding)


# One new token: q [N, G, E], keys and values [N, C, E] to [N, G, E].


def attend_by_products(q, keys, values, scale):
    """Batched matrix products; without MKL, PyTorch 1.13 calls BLAS once for every head of every row."""
    return torch.bmm(torch.softmax(torch.bmm(q * scale, keys.transpose(1, 2)), -1), values)


def attend_by_sums(q, keys, values, scale):
    """Elementwise products and sums: more memory traffic, no call for each head."""
    scores = (keys.unsqueeze(1) * (q * scale).unsqueeze(2)).sum(3)
    return (values.unsqueeze(1) * torch.softmax(scores, -1).unsqueeze(3)).sum(2)


def attend_by_fused_op(q, keys, values, scale):
    return F.scaled_dot_product_attention(q, keys, values, scale=scale)


ATTENTION = {"products": attend_by_products, "sums": attend_by_sums, "fused": attend_by_fused_op}
