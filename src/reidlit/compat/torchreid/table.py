"""Which rule reads which of Torchreid's settings."""

from collections.abc import Mapping

from reidlit.compat.torchreid import data, evaluation, network, training
from reidlit.compat.torchreid.result import Override, Remark, Rule
from reidlit.compat.torchreid.settings import MAPS, MUTUAL, SEARCH, Settings

DATASETS = (
    *("data.type", "data.sources", "data.targets", "data.split_id", "data.combineall"),
    *("market1501.use_500k_distractors", "cuhk03.labeled_images", "cuhk03.classic_split"),
)
WEIGHTS = ("model.name", "model.pretrained", "model.load_weights", "model.resume")
TRIPLET = ("loss.triplet.margin", "loss.triplet.weight_t", "loss.triplet.weight_x")
VIDEO = ("data.type", "video.seq_len", "video.sample_method", "video.pooling_method")

TRAIN: Mapping[Rule, tuple[str, ...]] = {
    network.model: WEIGHTS,
    network.normalisation: (*WEIGHTS, "data.norm_mean", "data.norm_std"),
    data.trained_data: (*DATASETS, "data.load_train_targets", "sampler.train_sampler_t"),
    training.loss: (
        "loss.name",
        "loss.softmax.label_smooth",
        *TRIPLET,
        "train.fixbase_epoch",
        *MUTUAL,
    ),  # before the sampler, which a loss brings
    data.loading: ("data.height", "data.width", "data.root", "data.workers", "test.batch_size"),
    data.views: ("data.k_tfm",),
    data.transforms: ("data.transforms", "data.norm_mean", "data.norm_std"),
    data.sampler: (
        *("sampler.train_sampler", "sampler.num_instances", "sampler.num_cams", "sampler.num_datasets"),
        *("train.batch_size", "loss.name", "loss.triplet.weight_t"),
    ),
    data.video: VIDEO,
    data.trained_video: (*VIDEO, "loss.name"),
    training.optimizer: (
        *("train.optim", "train.lr", "train.weight_decay"),
        *(*training.OF_SGD, "rmsprop.alpha", *training.OF_ADAM),
    ),
    network.staged: ("model.name", "train.staged_lr", "train.new_layers", "train.base_lr_mult"),
    training.schedule: ("train.lr_scheduler", "train.stepsize", "train.gamma"),
    network.freeze: ("model.name", "model.load_weights", "train.fixbase_epoch", "train.open_layers"),
    evaluation.protocol: ("test.dist_metric", "test.normalize_feature", "test.ranks", "cuhk03.use_metric_cuhk03"),
    evaluation.while_training: (
        *("test.evaluate", "test.eval_freq", "test.start_eval"),
        *("test.rerank", "test.visrank", "test.visrank_topk"),
    ),
    network.weights: ("model.load_weights", "model.resume", "train.start_epoch"),
    training.run: ("train.max_epoch", "train.seed", "train.print_freq"),
    training.place: ("use_gpu", "data.save_dir"),
}
TEST: Mapping[Rule, tuple[str, ...]] = {
    network.tested_weights: (*WEIGHTS, *MUTUAL),
    network.normalisation: (*WEIGHTS, "data.norm_mean", "data.norm_std"),
    data.tested_data: DATASETS,
    data.loading: TRAIN[data.loading],
    data.video: VIDEO,
    data.tested_video: (*VIDEO, "loss.name"),
    evaluation.protocol: TRAIN[evaluation.protocol],
    evaluation.when_testing: ("test.rerank", "test.visrank", "test.visrank_topk"),
    training.place: TRAIN[training.place],
}
# Rules of Torchreid's projects, which count where one of their settings is given.
TRAIN_PROJECTS: Mapping[Rule, tuple[str, ...]] = {
    network.mutual: tuple(MUTUAL),
    network.search: tuple(SEARCH),
    network.activation_maps: tuple(MAPS),
}
TEST_PROJECTS: Mapping[Rule, tuple[str, ...]] = {network.activation_maps: tuple(MAPS)}


def translate(settings: Settings) -> tuple[str, list[Override], list[Remark]]:
    """The command of ours, what it is told, and what else is to be said.

    Raises:
        ValueError: if Torchreid would refuse the settings, or we have nothing of that name.
    """
    tests = settings["test.evaluate"]
    command, table, projects = ("test", TEST, TEST_PROJECTS) if tests else ("train", TRAIN, TRAIN_PROJECTS)
    rules: dict[Rule, tuple[str, ...]] = {
        **table,
        **{rule: names for rule, names in projects.items() if not settings.given.isdisjoint(names)},
    }
    if network.search in rules:
        del rules[network.model]  # the project's own network stands for the search space
    found = [each for rule, names in rules.items() for each in rule(settings.of(names))]
    overrides = [each for each in found if isinstance(each, Override)]
    return command, overrides, [each for each in found if isinstance(each, Remark)]
