"""Callbacks that record the state of each process of a training."""

import json
from pathlib import Path

import pytorch_lightning as pl


class BestOfRank(pl.Callback):
    """Writes the validation scores of a rank, and its best checkpoint, to `rank<number>.json`."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.scores = []

    def on_validation_end(self, trainer, _module):
        self.scores.append(float(trainer.callback_metrics["val/mAP"]))

    def on_fit_end(self, trainer, _module):
        (best,) = [callback for callback in trainer.checkpoint_callbacks if callback.monitor]
        content = {"scores": self.scores, "best_score": float(best.best_model_score), "best_path": best.best_model_path}
        (self.folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(content))
