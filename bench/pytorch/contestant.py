"""PyTorch's side of the benchmark: reads one JSON command a line, answers one JSON line each."""
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


class Contestant:
    def open(self, folder, threads, adamw, attention="products"):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.decoder = Decoder(folder)
        self.attend = ATTENTION[attention]
        matrices = [p for p in self.decoder.parameters() if p.dim() >= 2]
        vectors = [p for p in self.decoder.parameters() if p.dim() < 2]
        groups = [
            {"params": matrices, "weight_decay": adamw["weight_decay"]},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            groups, lr=adamw["lr"], betas=tuple(adamw["betas"]), eps=1e-8, foreach=True
        )
        return {"version": torch.__version__, "threads": torch.get_num_threads()}

    def train(self, ids, steps):
        """Training steps on ids [B, T]: every token but the first is a target."""
        ids = torch.tensor(ids)
        losses = []
        elapsed = start_clocks()
        for _ in range(steps):
            logits = self.decoder(ids)
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return {**elapsed(), "losses": losses}

    def sample(self, prompts, samples, new_tokens, greedy=False):
        """`samples` completions of each prompt (all prompts of one length), each prompt prefilled once."""
        with torch.inference_mode():
            elapsed = start_clocks()
            prompts = torch.tensor(prompts)
            count, length = prompts.shape
            rows, total = count * samples, length + new_tokens
            small = self.decoder.new_cache(count, length)
            logits = self.decoder(prompts, small)[:, -1].repeat_interleave(samples, 0)
            cache = self.decoder.new_cache(rows, total)
            heads = self.decoder.heads
            for (k, v), (keys, values) in zip(small, cache):
                for source, target in ((k, keys), (v, values)):
                    wide = source.view(count, 1, heads, length, -1).expand(-1, samples, -1, -1, -1)
                    target.view(count, samples, heads, total, -1)[:, :, :, :length] = wide
            cos, sin = self.decoder.rope_tables(total)
            ids = torch.empty(rows, new_tokens, dtype=torch.long)
            log_probs = torch.empty(rows, new_tokens)
            for i in range(new_tokens):
                if i > 0:
                    logits = self.decoder.step(ids[:, i - 1], length + i - 1, cache, cos, sin, self.attend)
                logged = torch.log_softmax(logits, -1)
                drawn = logits.argmax(-1, keepdim=True) if greedy else torch.multinomial(logged.exp(), 1)
                ids[:, i] = drawn[:, 0]
                log_probs[:, i] = logged.gather(1, drawn)[:, 0]
            times = elapsed()
        shown = {"ids": ids.tolist(), "log_probs": log_probs.tolist()} if greedy else {}
        return {**times, "tokens": rows * new_tokens, **shown}

    def peak(self, size):
        """GFLOP/s of one large matrix product, the best of some."""
        a, b = torch.rand(size, size), torch.rand(size, size)
        best = float("inf")
        for _ in range(6):
            started = time.perf_counter()
            torch.mm(a, b)
            best = min(best, time.perf_counter() - started)
        return {"gflops": 2 * size**3 / best / 1e9}


def main():
    contestant = Contestant()
    for line in sys.stdin:
        command = json.loads(line)
        answer = getattr(contestant, command.pop("op"))(**command)
        print(json.dumps(answer), flush=True)


main()
