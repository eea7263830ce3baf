"""PyTorch's side of the benchmark: reads one JSON command a line, answers one JSON line each."""
import ctypes
import json
import sys
import time

import torch
import torch.nn.functional as F

from decoder import ATTENTION, Decoder


def start_clocks():
    """Wall and CPU time from now on."""
    wall, cpu = time.perf_counter(), time.process_time()
    return lambda: {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


def set_openblas_threads(count):
    """Of the OpenBLAS that this process has loaded, if it has."""
    with open("/proc/self/maps") as maps:
        files = {line.split()[-1] for line in maps if "openblas" in line and "libblas" in line}
    for file in files:
        set_threads = getattr(ctypes.CDLL(file), "openblas_set_num_threads", None)
        if set_threads is not None:
            set_threads(count)


class Contestant:
    def open(self, folder, device, adamw):
        torch.manual_seed(0)
        self.device = device
        self.decoder = Decoder(folder, device)
        matrices = [p for p in self.decoder.parameters() if p.dim() >= 2]
        vectors = [p for p in self.decoder.parameters() if p.dim() < 2]
        groups = [
            {"params": matrices, "weight_decay": adamw["weight_decay"]},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            groups, lr=adamw["lr"], betas=tuple(adamw["betas"]), eps=1e-8, foreach=True
        )
        return {"version": torch.__version__}

    def configure(self, threads, blas, attention="products"):
        torch.set_num_threads(threads)
        set_openblas_threads(blas)
        self.attention = attention
        return {"threads": torch.get_num_threads()}

    def finish(self):
        """Waits for a GPU."""
        if self.device != "cpu":
            torch.cuda.synchronize()

    def train(self, ids, steps):
        """Training steps on ids [B, T]: every token but the first is a target."""
        ids = torch.tensor(ids, device=self.device)
        losses = []
        elapsed = start_clocks()
        for _ in range(steps):
            logits = self.decoder(ids, fused=self.attention == "fused")
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        self.finish()
        return {**elapsed(), "losses": losses}

    def sample(self, prompts, samples, new_tokens, greedy=False):
        """`samples` completions of each prompt (all prompts of one length), each prompt prefilled once."""
        attend = ATTENTION[self.attention]
        with torch.inference_mode():
            elapsed = start_clocks()
            prompts = torch.tensor(prompts, device=self.device)
            count, length = prompts.shape
            rows, total = count * samples, length + new_tokens
            small = self.decoder.new_cache(count, length)
            logits = self.decoder(prompts, small, self.attention == "fused")[:, -1].repeat_interleave(samples, 0)
            cache = self.decoder.new_cache(rows, total)
            heads = self.decoder.kv_heads
            for (k, v), (keys, values) in zip(small, cache):
                for source, target in ((k, keys), (v, values)):
                    wide = source.view(count, 1, heads, length, -1).expand(-1, samples, -1, -1, -1)
                    target.view(count, samples, heads, total, -1)[:, :, :, :length] = wide
            del small
            cos, sin = self.decoder.rope_tables(total)
            ids = torch.empty(rows, new_tokens, dtype=torch.long, device=self.device)
            log_probs = torch.empty(rows, new_tokens, device=self.device)
            for i in range(new_tokens):
                if i > 0:
                    logits = self.decoder.step(ids[:, i - 1], length + i - 1, cache, cos, sin, attend)
                logged = torch.log_softmax(logits, -1)
                drawn = logits.argmax(-1, keepdim=True) if greedy else torch.multinomial(logged.exp(), 1)
                ids[:, i] = drawn[:, 0]
                log_probs[:, i] = logged.gather(1, drawn)[:, 0]
            self.finish()
            times = elapsed()
        shown = {"ids": ids.tolist(), "log_probs": log_probs.tolist()} if greedy else {}
        return {**times, "tokens": rows * new_tokens, **shown}

    def open_device(self, device):
        self.device = device
        return {}

    def seconds(self, work, repeats=10):
        """Of one call, the best of some."""
        best = float("inf")
        for _ in range(repeats):
            self.finish()
            started = time.perf_counter()
            work()
            self.finish()
            best = min(best, time.perf_counter() - started)
        return best

    def limits(self):
        """What the device can do at most: TFLOP/s of a large product in float32, without and with TF32; GB/s of a copy."""
        is_gpu = self.device != "cpu"
        size, numbers = (8192, 2**29) if is_gpu else (1024, 2**25)
        a, b = (torch.rand(size, size, device=self.device) for _ in "ab")
        source = torch.zeros(numbers, device=self.device)
        target = torch.empty_like(source)
        tflops = {}
        for precision in ("highest", "high"):
            torch.set_float32_matmul_precision(precision)
            tflops[precision] = 2 * size**3 / self.seconds(lambda: torch.mm(a, b)) / 1e12
        torch.set_float32_matmul_precision("highest")
        return {
            "name": torch.cuda.get_device_name() if is_gpu else "CPU",
            "tflops": tflops["highest"],
            "tf32_tflops": tflops["high"],
            "gb_per_s": 2 * 4 * numbers / self.seconds(lambda: target.copy_(source)) / 1e9,
        }


def main():
    contestant = Contestant()
    for line in sys.stdin:
        command = json.loads(line)
        answer = getattr(contestant, command.pop("op"))(**command)
        print(json.dumps(answer), flush=True)


main()
