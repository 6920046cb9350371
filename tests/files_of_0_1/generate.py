"""Write the files in this folder. Requires the code of reidlit 0.1.0, see README.md."""

import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pyarrow.parquet
import torch
from omegaconf import OmegaConf
from PIL import Image

import reidlit
from reidlit import FeatureExtractor, Gallery, ReIDModule, evaluate
from reidlit.engine.attributes import AttributeModule
from reidlit.engine.joint_attributes import JointAttributeModule
from reidlit.engine.mutual import MutualModule
from reidlit.inference.features import Features
from reidlit.spec import build

TINY = [
    *("data.num_identities=12", "data.num_test=6", "data.num_cameras=2", "data.shots=3"),
    *("data.image_height=64", "data.image_width=32", "data.height=64", "data.width=32"),
    *("data.num_workers=0", "data.batch_size=12"),
]
QUIET = ["trainer=cpu", "logger=csv", "callbacks.progress=null", "callbacks.ranked_lists=null"]
TRAIN = [*TINY, *QUIET, "trainer.max_epochs=1"]
BACKBONE = (
    "+model.backbone={_target_: timm.models.densenet.DenseNet, growth_rate: 4, block_config: [1, 1], bn_size: 1, "
    "num_classes: 0, global_pool: ''}"
)
MODEL = ["model=timm", "~model.backbone", BACKBONE]
SGD = ["optimizer=sgd", "optimizer.lr=0.02", "scheduler.max_epochs=4"]
STATELESS = [*SGD, "optimizer.momentum=0.0"]  # no optimizer state, so that files stay small
TRIPLET = ["loss=softmax_triplet", "sampler.num_instances=3"]

CHECKPOINTS = {
    "identity": [
        *(*TRAIN, *MODEL, *SGD, *TRIPLET),
        *("model/pool=gem", "model/neck=fc512", "model.neck.dim=16", "model/classifier=linear"),
        *("model/temporal=attention", "model.temporal.hidden=4"),
    ],
    "reranked": [
        *(*TRAIN, *MODEL, "loss=agw", "sampler.num_instances=3", "model/pool=average_max"),
        *("optimizer=timm", "optimizer.opt=lion", "scheduler=multi_step", "averaging=ema", "callbacks.ema.decay=0.5"),
        *("eval.normalize=true", "eval.postprocess=[alpha_query_expansion,neighbour_centralisation,k_reciprocal]"),
        # The defining module; the other steps use the name that the package exports.
        "eval.steps.k_reciprocal._target_=reidlit.metrics.k_reciprocal.KReciprocal",
        *("eval.steps.k_reciprocal.k1=6", "eval.steps.k_reciprocal.k2=3"),
    ],
    "attributes": [
        *("engine=attributes", "data=synthetic_attributes", "transforms=default", "data.num_identities=24"),
        *("data.num_val=6", "data.num_test=6", *TRAIN[2:], "data.shots=1", *MODEL, *STATELESS),
    ],
    "joint": [
        *("engine=joint_attributes", "engine.attributes_file=identity_attributes.csv", *TRAIN, *MODEL, *STATELESS),
        *(*TRIPLET, "model/neck=dropout"),
    ],
    "mutual": ["engine=mutual", *TRAIN, *MODEL, *STATELESS, "model/pool=stripes", "model.pool.parts=2"],
    "distilled": ["engine=distillation", "engine.teacher=identity.ckpt", *TRAIN, *MODEL, *STATELESS],
}
SCORES = ("mAP", "mINP", "rank1", "rank5", "AUC", "EER")


def main() -> None:
    """Write all files; the working folder must be empty."""
    target = Path(__file__).resolve().parent
    (Path.cwd() / "identity_attributes.csv").write_text(
        "pid,hat,bag\n" + "".join(f"{pid},{pid % 2},{pid // 3 % 2}\n" for pid in range(11)), encoding="utf-8"
    )
    shutil.copy("identity_attributes.csv", target)
    expected = {
        "checkpoints": {name: checkpoint(name, arguments, target) for name, arguments in CHECKPOINTS.items()},
        "features": features(target),
        "gallery": gallery(target),
        "verify": verify(),
        "run": run(target),
        "sweep": sweep(target),
        "targets": targets(),
    }
    text = json.dumps(expected, indent=1, allow_nan=False)
    (target / "expected.json").write_text(text + "\n", encoding="utf-8")


def cli(*arguments: str) -> str:
    """Run a command."""
    command = [sys.executable, "-m", "reidlit", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def images() -> list[np.ndarray]:
    """Return two images, one of the training size and one of another size."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, shape, np.uint8) for shape in ((64, 32, 3), (100, 50, 3))]


def image_batch() -> torch.Tensor:
    """Return the first image as a batch (1, 3, H, W)."""
    return torch.from_numpy(images()[0]).permute(2, 0, 1)[None]


def scores(file: Path) -> dict[str, float]:
    """Read selected scores of the test sets."""
    return {
        name: value
        for name, value in json.loads(file.read_text(encoding="utf-8")).items()
        if name.startswith("test/") and (name.rpartition("/")[2] in SCORES or name.endswith(("/mA", "/f1")))
    }


@torch.inference_mode()
def checkpoint(name: str, arguments: list[str], target: Path) -> dict[str, object]:
    """Train for one epoch, then resume for a second epoch."""
    cli("train", *arguments, f"hydra.run.dir=runs/{name}")
    file = Path(f"{name}.ckpt")
    shutil.copy(f"runs/{name}/checkpoints/last.ckpt", file)
    shutil.copy(file, target)
    extractor = FeatureExtractor(model_path=file)
    expected: dict[str, object] = {
        "arguments": arguments,
        "image_size": list(extractor.image_size),
        "fingerprint": extractor.fingerprint,
        "embeddings": extractor(images()).tolist(),
    }
    if name != "attributes":  # attribute training tests the best checkpoint instead of the last
        expected["scores"] = scores(Path(f"runs/{name}/metrics.json"))
    if name == "attributes":
        module = AttributeModule.load_from_checkpoint(file, map_location="cpu").eval()
        expected["attributes"], expected["probabilities"] = (
            module.hparams["attributes"],
            module(image_batch())[0].tolist(),
        )
    elif name == "joint":
        joint = JointAttributeModule.load_from_checkpoint(file, map_location="cpu").eval()
        expected["attributes"] = joint.hparams["attributes"]
        expected["probabilities"] = joint.attribute_probabilities(image_batch())[0].tolist()
    elif name == "mutual":
        ensemble = MutualModule.load_from_checkpoint(file, map_location="cpu", ensemble=True).eval()
        expected["ensemble"] = ensemble(image_batch())[0].tolist()
    if name != "attributes":
        expected["pids"] = list(ReIDModule.load_from_checkpoint(file, map_location="cpu").hparams["pids"])
    cli("train", *arguments, "trainer.max_epochs=2", f"ckpt_path={name}.ckpt", f"hydra.run.dir=runs/{name}_resumed")
    resumed = Path(f"runs/{name}_resumed/checkpoints/last.ckpt")
    content = torch.load(resumed, weights_only=True)
    expected["resumed"] = {
        "epoch": content["epoch"],
        "global_step": content["global_step"],
        "embeddings": FeatureExtractor(model_path=resumed)(images()).tolist(),
    }
    return expected


def features(target: Path) -> dict[str, object]:
    """Extract the test set of `identity.ckpt`."""
    for suffix in ("npz", "parquet"):
        cli("extract", "ckpt_path=identity.ckpt", "data=synthetic", *TINY, f"output=features.{suffix}")
        shutil.copy(f"features.{suffix}", target)
    stored = Features.load("features.npz")
    cli("test", "features=features.npz", "hydra.run.dir=runs/plain")
    steps = "eval.postprocess=[k_reciprocal]"
    cli("test", "features=features.npz", steps, "eval.steps.k_reciprocal.k1=6", "hydra.run.dir=runs/reciprocal")
    return {
        "fingerprint": stored.fingerprint,
        "path": stored.path.tolist(),
        "pid": stored.pid.tolist(),
        "camid": stored.camid.tolist(),
        "split": stored.split.tolist(),
        "tracklet": stored.tracklet.tolist(),
        "first": stored.embedding[0].tolist(),
        "sum": float(stored.embedding.sum(dtype=np.float64)),
        "scores": scores(Path("runs/plain/metrics.json")),
        "reranked": scores(Path("runs/reciprocal/metrics.json")),
        "evaluated": evaluated(stored),
    }


def evaluated(stored: Features) -> dict[str, float]:
    """Evaluate the features with the options stored in `reranked.ckpt`."""
    evaluation = ReIDModule.load_from_checkpoint("reranked.ckpt", map_location="cpu").hparams["evaluation"]
    options = {key: value for key, value in evaluation.items() if key != "flip"}
    options["postprocess"] = [build(step) for step in evaluation["postprocess"]]
    query, gallery = stored.of_split("query"), stored.of_split("gallery")
    labels = (query.pid, gallery.pid, query.camid, gallery.camid)
    result = evaluate(query.embedding, gallery.embedding, *labels, **options).as_dict()
    return {name: result[name] for name in SCORES}


def gallery(target: Path) -> dict[str, object]:
    """Create a gallery with gaps between ids and an entry without identity, camera and path."""
    stored = Features.load("features.npz")
    made = Gallery(metric="cosine")
    made.add(stored.of_split("gallery"), stamps=np.arange(24) + 100)
    made.add(stored.embedding[:1] * 2)
    made.remove([2, 5])
    made.save("gallery.npz")
    shutil.copy("gallery.npz", target)
    query = stored.of_split("query")
    result = made.search(query, 4, cross_camera=True)
    by_image = Gallery.load("gallery.npz", extractor=FeatureExtractor(model_path="identity.ckpt")).search(images(), 4)
    about = made.about(made.ids)
    return {
        "metric": made.metric,
        "fingerprint": made.fingerprint,
        "ids": made.ids.tolist(),
        "stamps": made.stamps.tolist(),
        "pids": about.pids.tolist(),
        "camids": about.camids.tolist(),
        "paths": about.paths.tolist(),
        "next_id": 25,
        "found": {"ids": result.ids.tolist(), "distances": result.distances.tolist()},
        "by_image": {"ids": by_image.ids.tolist(), "distances": by_image.distances.tolist()},
    }


def verify(*arguments: str) -> dict[str, object]:
    """Verify the two images, with the thresholds in `identity.ckpt` by default."""
    for number, image in enumerate(images()):
        Image.fromarray(image).save(f"{number}.png")
    printed = cli("verify", "0.png", "1.png", "ckpt_path=identity.ckpt", "json=true", "fpr=0.1", *arguments)
    verdict: dict[str, object] = json.loads(printed.splitlines()[-1])
    return verdict


def run(target: Path) -> dict[str, object]:
    """Train the default model."""
    arguments = [*TRAIN, "loss=softmax_triplet", "sampler.num_instances=3", "score_untrained=true"]
    cli("train", *arguments, "trainer.max_epochs=2", "data.val_fraction=0.34", "hydra.run.dir=run")
    _keep(Path("run"), target)
    ap = pyarrow.parquet.read_table("run/per_query.parquet")["ap"].to_pylist()
    return {"scores": scores(Path("run/metrics.json")), "ap": ap, "verify": verify("calibration=run/calibration.json")}


def sweep(target: Path) -> dict[str, object]:
    """Run a sweep over two seeds and aggregate it."""
    cli("train", "-m", *TRAIN, "optimizer.lr=0.003", "seed=1,2", "hydra.sweep.dir=sweep")
    _keep(Path("sweep"), target)
    cli("aggregate", "runs=sweep", "hydra.run.dir=runs/aggregate")
    (group,) = json.loads(Path("runs/aggregate/aggregate.json").read_text(encoding="utf-8"))["groups"]
    cli("aggregate", "runs=[sweep,run]", "hydra.run.dir=runs/both")
    both = json.loads(Path("runs/both/aggregate.json").read_text(encoding="utf-8"))["groups"]
    return {"group": group, "sizes": sorted(len(group["runs"]) for group in both)}


def _keep(folder: Path, target: Path) -> None:
    """Copy a run without checkpoints and images."""
    shutil.rmtree(target / folder.name, ignore_errors=True)
    shutil.copytree(
        folder, target / folder.name, ignore=shutil.ignore_patterns("checkpoints", "*.log", "*.svg", "*.png")
    )


def targets() -> dict[str, str]:
    """Map every `_target_` in conf/, and its name in the defining module, to the name of the class or function."""
    names: dict[str, str] = {}
    for file in sorted((Path(reidlit.__file__).parents[2] / "conf").rglob("*.yaml")):
        stack = [OmegaConf.to_container(OmegaConf.load(file), resolve=False)]
        while stack:
            item = stack.pop()
            stack.extend(item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())
            name = item.get("_target_", "") if isinstance(item, dict) else ""
            if name.startswith("reidlit."):
                target = getattr(import_module(name.rpartition(".")[0]), name.rpartition(".")[2])
                names[name] = names[f"{target.__module__}.{target.__qualname__}"] = target.__qualname__
    return dict(sorted(names.items()))


if __name__ == "__main__":
    os.environ.update(REIDLIT_DATA="data", OMP_NUM_THREADS="1")
    torch.set_num_threads(1)
    main()
