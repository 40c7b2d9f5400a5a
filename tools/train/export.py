"""Exports the averaged weights of a run's last checkpoint: export.py RUN_DIR OUT_DIR"""
import json
import os
import sys

import torch

import model as trol
import train


def main():
    run_dir, out_dir = sys.argv[1:3]
    model = trol.Trol(trol.Config(json.load(open(os.path.join(run_dir, "config.json")))))
    state = torch.load(os.path.join(run_dir, "checkpoint.pt"), weights_only=True)
    model.load_state_dict(state["average"])
    train.export(model, run_dir, out_dir)
    print(f"step {state['step']}, gate's bias {model.gate.bias.item():.3f}")


if __name__ == "__main__":
    main()
