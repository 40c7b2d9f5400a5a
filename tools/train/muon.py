"""Muon for the matrices inside the layers, AdamW for everything else, as one optimizer.

Muon orthogonalizes each matrix's momentum (Newton-Schulz); on models this small it needs about half the
samples that AdamW needs. Matrices of one shape are orthogonalized as one batch.
"""
import torch


def orthogonalize(x, steps=5):
    """[n, rows, columns] -> the nearest (semi-)orthogonal matrices, roughly."""
    tall = x.shape[1] > x.shape[2]
    x = x.transpose(1, 2) if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        y = x @ x.transpose(1, 2)
        z = -4.7750 * y + 2.0315 * (y @ y)
        x = 3.4445 * x + z @ x
    return x.transpose(1, 2) if tall else x


class Optimizer:
    def __init__(self, matrices, others, muon_rate, adam_rate, decay):
        """matrices: 2-D parameters for Muon; others for AdamW. Rates are at factor 1 of `step`."""
        self.rate, self.decay = muon_rate, decay
        shapes = {}
        for p in matrices:
            shapes.setdefault(tuple(p.shape), []).append(p)
        self.groups = list(shapes.values())
        self.momentum = [torch.zeros(len(ps), *ps[0].shape) for ps in self.groups]
        self.adam_rate = adam_rate
        self.adam = torch.optim.AdamW(others, lr=adam_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)

    @torch.no_grad()
    def step(self, factor):
        for ps, momentum in zip(self.groups, self.momentum):
            gradient = torch.stack([torch.zeros_like(p) if p.grad is None else p.grad for p in ps])
            momentum.lerp_(gradient, 0.05)
            update = orthogonalize(gradient.lerp(momentum, 0.95).bfloat16()).float()
            rows, columns = ps[0].shape
            rate = self.rate * factor * max(1.0, rows / columns) ** 0.5
            for p, u in zip(ps, update.unbind()):
                if p.grad is None:
                    continue  # frozen
                p.mul_(1 - self.rate * factor * self.decay).add_(u, alpha=-rate)
        for group in self.adam.param_groups:
            group["lr"] = self.adam_rate * factor
        self.adam.step()

    def zero_grad(self):
        for ps in self.groups:
            for p in ps:
                p.grad = None
        self.adam.zero_grad(set_to_none=True)

    def state_dict(self):
        return {"momentum": self.momentum, "adam": self.adam.state_dict()}

    def load_state_dict(self, state):
        for mine, stored in zip(self.momentum, state["momentum"]):
            mine.copy_(stored)
        self.adam.load_state_dict(state["adam"])
