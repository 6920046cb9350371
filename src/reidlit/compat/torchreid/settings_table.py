"""Table of Torchreid's settings and their translation. To support another setting, add a row."""

from typing import Any

from reidlit.compat.torchreid import rules
from reidlit.compat.torchreid.settings import Row

TRAIN, BOTH = ("train",), ("train", "test")
# `needs` of a row: another setting, and its values with which Torchreid uses the setting of the row.
VIDEO = ("data.type", "video")
TRIPLET = ("loss.name", "triplet")
ADAM = ("train.optim", "adam", "amsgrad", "radam")
DML, OSNET_AIN = ("projects/DML",), ("projects/OSNet_AIN",)
IDENTITY = ("sampler.train_sampler", "RandomIdentitySampler")
DOMAIN = ("sampler.train_sampler", "RandomDomainSampler")
DATASET = ("sampler.train_sampler", "RandomDatasetSampler")
STEPS = ("train.lr_scheduler", "single_step", "multi_step")

SAMPLERS: dict[str, dict[str, Any]] = {
    "RandomSampler": {"sampler": "random"},
    "SequentialSampler": {"sampler": "sequential", "sampler.drop_last": True},
    "RandomIdentitySampler": {"sampler": "identity"},
    "RandomDomainSampler": {"sampler": "domain"},
    "RandomDatasetSampler": {"sampler": "dataset"},
}
SCHEDULERS = {name: {"scheduler": name} for name in ("multi_step", "cosine")} | {"single_step": {"scheduler": "step"}}
OPTIMIZERS = ("adam", "amsgrad", "sgd", "rmsprop", "radam")
RERANKING = {True: {"eval.postprocess": ["k_reciprocal"], "eval.steps.k_reciprocal.exponent": 4}}

# Remarks
TARGET_IMAGES = "no engine of Torchreid uses them; add data=multi data.load_train_targets=true for a custom engine."
VIEWS = "no engine of Torchreid supports several views; reidlit trains on all of them."
RANKS = "reidlit prints ranks 1, 5, 10 and 20; metrics.json contains the complete CMC curve."
EVALUATION = (
    "reidlit evaluates the test set once, after training; add callbacks=best data.val_fraction=0.1 to validate on "
    "held-out identities."
)
EXPONENT = "Torchreid squares distances twice; remove eval.steps.k_reciprocal.exponent to follow the paper."
RESUME = "not used by Torchreid, unless a run is resumed."
MUTUAL = "Torchreid's two networks start equal and stay equal; reidlit initializes them differently."
SECOND = "the second network also starts from weights=, with a separate classifier."
DEPLOY = "both networks are equivalent; by default the first is tested, with engine.ensemble=true both are."
SAMPLES = "Torchreid takes that many steps per batch; reidlit averages the gradients of that many architectures."
MAPS = "use reidlit visualize to render activation maps."

# Settings and defaults of scripts/main.py in Torchreid 1.4.0. Losses precede samplers because they select one.
TABLE: dict[str, Row] = {
    "model.name": Row("resnet50", BOTH, rules.model),
    "model.pretrained": Row(True, BOTH, rules.model),
    "model.load_weights": Row("", BOTH, rules.weights),
    "model.resume": Row("", BOTH, rules.weights),
    "data.norm_mean": Row([0.485, 0.456, 0.406], BOTH, rules.normalization),
    "data.norm_std": Row([0.229, 0.224, 0.225], BOTH, rules.normalization),
    "data.type": Row("image", BOTH, rules.datasets, choices=("image", "video")),
    "data.sources": Row(["market1501"], BOTH, rules.datasets),
    "data.targets": Row(["market1501"], BOTH, rules.datasets),
    "data.split_id": Row(0, BOTH, rules.datasets),
    "data.combineall": Row(False, TRAIN, "data.combineall"),
    "data.load_train_targets": Row(False, TRAIN, None, TARGET_IMAGES),
    "market1501.use_500k_distractors": Row(False, BOTH, rules.datasets),
    "cuhk03.labeled_images": Row(False, BOTH, rules.datasets),
    "cuhk03.classic_split": Row(False, BOTH, rules.datasets),
    "cuhk03.use_metric_cuhk03": Row(False, BOTH, {True: {"eval.protocol": "cuhk03"}}),
    "data.root": Row("reid-data", BOTH, rules.data_root),
    "data.workers": Row(4, BOTH, "data.num_workers", only_explicit=True),
    "data.height": Row(256, BOTH, "data.height"),
    "data.width": Row(128, BOTH, "data.width"),
    "data.k_tfm": Row(1, TRAIN, "data.k_tfm", VIEWS),
    "data.transforms": Row(["random_flip"], TRAIN, rules.transforms),
    "loss.name": Row("softmax", TRAIN, rules.loss, choices=("softmax", "triplet")),
    "loss.softmax.label_smooth": Row(True, TRAIN, rules.loss),
    "loss.triplet.margin": Row(0.3, TRAIN, rules.loss, needs=TRIPLET),
    "loss.triplet.weight_t": Row(1.0, TRAIN, rules.loss, needs=TRIPLET),
    "loss.triplet.weight_x": Row(0.0, TRAIN, rules.loss, needs=TRIPLET),
    "train.batch_size": Row(32, TRAIN, rules.batch_size),
    "sampler.train_sampler": Row("RandomSampler", TRAIN, SAMPLERS, choices=tuple(SAMPLERS)),
    "sampler.train_sampler_t": Row("RandomSampler", TRAIN, needs=("data.load_train_targets",)),
    "sampler.num_instances": Row(4, TRAIN, "sampler.num_instances", needs=IDENTITY),
    "sampler.num_cams": Row(
        1, TRAIN, lambda s: [("sampler.num_cams", max(0, s["sampler.num_cams"]) or None)], needs=DOMAIN
    ),
    "sampler.num_datasets": Row(
        1, TRAIN, lambda s: [("sampler.num_datasets", max(0, s["sampler.num_datasets"]) or None)], needs=DATASET
    ),
    "video.seq_len": Row(15, BOTH, "data.seq_len", needs=VIDEO),
    "video.sample_method": Row("evenly", BOTH, rules.frames, needs=VIDEO, choices=tuple(rules.SAMPLING)),
    "video.pooling_method": Row("avg", BOTH, rules.frames, needs=VIDEO),
    "train.optim": Row("adam", TRAIN, "optimizer", choices=OPTIMIZERS),
    "train.lr": Row(3e-4, TRAIN, "optimizer.lr"),
    "train.weight_decay": Row(5e-4, TRAIN, "optimizer.weight_decay"),
    "sgd.momentum": Row(0.9, TRAIN, "optimizer.momentum", needs=("train.optim", "sgd", "rmsprop")),
    "sgd.dampening": Row(0.0, TRAIN, "optimizer.dampening", needs=("train.optim", "sgd")),
    "sgd.nesterov": Row(False, TRAIN, "optimizer.nesterov", needs=("train.optim", "sgd")),
    "rmsprop.alpha": Row(0.99, TRAIN, "optimizer.alpha", needs=("train.optim", "rmsprop")),
    "adam.beta1": Row(0.9, TRAIN, lambda s: [("optimizer.betas", [s["adam.beta1"], s["adam.beta2"]])], needs=ADAM),
    "adam.beta2": Row(0.999, TRAIN, needs=ADAM),  # see adam.beta1
    "train.staged_lr": Row(False, TRAIN),  # see train.new_layers
    "train.new_layers": Row(["classifier"], TRAIN, rules.new_layers, needs=("train.staged_lr",)),
    "train.base_lr_mult": Row(0.1, TRAIN, "optimizer.base_lr_mult", needs=("train.staged_lr",)),
    "train.lr_scheduler": Row("single_step", TRAIN, SCHEDULERS, choices=tuple(SCHEDULERS)),
    "train.stepsize": Row([20], TRAIN, rules.step_size, needs=STEPS),
    "train.gamma": Row(0.1, TRAIN, "scheduler.gamma", needs=STEPS),
    "train.fixbase_epoch": Row(0, TRAIN, "callbacks.freeze.epochs"),
    "train.open_layers": Row(["classifier"], TRAIN, rules.open_layers, needs=("train.fixbase_epoch",)),
    "train.max_epoch": Row(60, TRAIN, "trainer.max_epochs"),
    "train.start_epoch": Row(0, TRAIN, None, RESUME),
    "train.seed": Row(1, TRAIN, "seed"),
    "train.print_freq": Row(20, TRAIN, "trainer.log_every_n_steps"),
    "test.evaluate": Row(False, BOTH),  # True: reidlit test
    "test.batch_size": Row(100, BOTH, "data.test_batch_size", only_explicit=True),
    "test.dist_metric": Row("euclidean", BOTH, "eval.metric", choices=("euclidean", "cosine")),
    "test.normalize_feature": Row(False, BOTH, "eval.normalize"),
    "test.ranks": Row([1, 5, 10, 20], BOTH, lambda s: [("eval.max_rank", max(50, *s["test.ranks"]))], RANKS),
    "test.eval_freq": Row(-1, TRAIN, None, EVALUATION),
    "test.start_eval": Row(0, TRAIN, None, EVALUATION),
    "test.rerank": Row(False, BOTH, RERANKING, EXPONENT, needs=("test.evaluate",)),
    "test.visrank": Row(False, BOTH, rules.ranked_lists, needs=("test.evaluate",)),
    "test.visrank_topk": Row(10, BOTH, rules.ranked_lists, needs=("test.visrank",)),
    "use_gpu": Row(True, BOTH, {False: {"trainer": "cpu"}}),
    "data.save_dir": Row("log", BOTH, "hydra.run.dir", only_explicit=True),
    # Deep mutual learning. The first row is true if one of the other settings is set.
    "projects/DML": Row(False, TRAIN, {True: {"engine": "mutual"}}, MUTUAL),
    "loss.dml.weight_ml": Row(1.0, TRAIN, "engine.weight", needs=DML),
    "model.deploy": Row(
        "model1", TRAIN, {"both": {"engine.ensemble": True}}, DEPLOY, needs=DML, choices=("model1", "model2", "both")
    ),
    "model.load_weights1": Row("", TRAIN, rules.weights, needs=DML),
    "model.load_weights2": Row("", TRAIN, None, SECOND, needs=DML),
    "model.resume1": Row("", TRAIN, rules.weights, needs=DML),
    "model.resume2": Row("", TRAIN, None, SECOND, needs=DML),
    # Architecture search and activation maps. The first row is true if one of the nas settings is set.
    "projects/OSNet_AIN": Row(False, TRAIN, {True: {"engine": "architecture_search", "test": False}}),
    "nas.mc_iter": Row(1, TRAIN, "engine.samples", SAMPLES, needs=OSNET_AIN),
    "nas.init_lmda": Row(10.0, TRAIN, "engine.temperature", needs=OSNET_AIN),
    "nas.min_lmda": Row(1.0, TRAIN, "engine.min_temperature", needs=OSNET_AIN),
    "nas.lmda_decay_step": Row(20, TRAIN, "engine.decay_every", needs=OSNET_AIN),
    "nas.lmda_decay_rate": Row(0.5, TRAIN, "engine.temperature_decay", needs=OSNET_AIN),
    "nas.fixed_lmda": Row(False, TRAIN, {True: {"engine.temperature_decay": 1.0}}, needs=OSNET_AIN),
    "test.visactmap": Row(False, BOTH, None, MAPS),
}
# Defaults that differ in projects/DML.
DML_DEFAULTS = {"loss.name": "triplet", "loss.triplet.weight_t": 0.5, "loss.triplet.weight_x": 1.0}
