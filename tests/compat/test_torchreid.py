"""Migration of Torchreid configurations to reidlit commands."""

import json
import math
import shlex
import subprocess

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from torch import nn

from helpers.cli_settings import TINY
from reidlit.cli import _named
from reidlit.commands.migrate import _compose
from reidlit.compat.torchreid.command import quote
from reidlit.compat.torchreid.settings_table import DML, OSNET_AIN, TABLE
from reidlit.compat.torchreid.translate import complete_settings, translate
from reidlit.config import CONFIG_DIR
from reidlit.engine.optim import build_optimizer
from reidlit.engine.schedules import build_scheduler
from reidlit.overrides import format_override

pytestmark = pytest.mark.slow

# In the format of Torchreid's published configurations.
OSNET = """
model: {name: 'osnet_x1_0', pretrained: True}
data:
  type: 'image'
  sources: ['market1501']
  targets: ['market1501']
  height: 256
  width: 128
  combineall: False
  transforms: ['random_flip', 'random_erase']
  save_dir: 'log/osnet_x1_0'
loss:
  name: 'softmax'
  softmax: {label_smooth: True}
train:
  optim: 'amsgrad'
  lr: 0.0015
  max_epoch: 250
  batch_size: 64
  fixbase_epoch: 10
  open_layers: ['classifier']
  lr_scheduler: 'cosine'
test: {batch_size: 300, dist_metric: 'euclidean', normalize_feature: False, evaluate: False, eval_freq: -1, rerank: False}
"""
RESNET = """
model: {name: resnet50_fc512}
data: {root: /data/reid, transforms: [random_crop, random_flip]}
loss: {name: triplet, softmax: {label_smooth: False}, triplet: {margin: 0.5, weight_t: 1.0, weight_x: 1.0}}
sampler: {train_sampler: RandomIdentitySampler}
train: {optim: sgd, lr: 0.05, lr_scheduler: multi_step, stepsize: [20, 40], staged_lr: True, new_layers: [fc, classifier], seed: 7}
sgd: {nesterov: True}
"""
AIN = """
model: {name: osnet_ain_x1_0}
data: {sources: [msmt17], targets: [market1501, dukemtmcreid], combineall: True, transforms: [random_flip, color_jitter]}
train: {optim: amsgrad, lr: 0.0015, max_epoch: 100, batch_size: 64, fixbase_epoch: 10, lr_scheduler: cosine}
test: {dist_metric: cosine}
"""
VIDEO = """
model: {name: resnet50, pretrained: False}
data: {type: video, sources: [synthetic_video], targets: [synthetic_video]}
video: {seq_len: 10, sample_method: random, pooling_method: max}
train: {batch_size: 3, max_epoch: 5}
"""
TEST = """
model: {name: osnet_x0_25, load_weights: zoo/osnet x0_25.pth}
data: {sources: [market1501], targets: [cuhk03]}
cuhk03: {labeled_images: True, classic_split: True, use_metric_cuhk03: True}
test: {evaluate: True, rerank: True, visrank: True, visrank_topk: 60, normalize_feature: True, ranks: [1, 100]}
use_gpu: False
"""
COMMANDS = {
    OSNET: [
        *("train", "model=osnet_x1_0", "data=market1501", "model.pretrained=true", "data.test_batch_size=300"),
        *("transforms.train=[resize,random_flip,random_erase]", "transforms.random_erase.fill=[152,142,127]"),
        *("callbacks.freeze.epochs=10", "trainer.max_epochs=250", "hydra.run.dir=log/osnet_x1_0"),
    ],
    RESNET: [
        *(
            "train",
            "model=resnet50_fc512",
            "data=market1501",
            "loss=softmax_triplet",
            "optimizer=sgd",
            "scheduler=multi_step",
        ),
        *("model.pretrained=true", "data.root=/data/reid", "transforms=flip_crop"),
        *("loss.losses.softmax.label_smoothing=0.0", "loss.losses.triplet.margin=0.5", "data.batch_size=32"),
        *("optimizer.nesterov=true", "optimizer.new_layers=[neck,classifier]", "scheduler.milestones=[20,40]"),
        *("trainer.max_epochs=60", "seed=7"),
    ],
    AIN: [
        *("train", "model=osnet_ain_x1_0", "data=multi", "transforms=flip_jitter", "model.pretrained=true"),
        *(
            "data.sources=[{msmt17:{include_val:true}}]",
            "data.targets=[market1501,dukemtmcreid]",
            "data.combineall=true",
        ),
        *("callbacks.freeze.epochs=10", "trainer.max_epochs=100", "eval.metric=cosine"),
    ],
    VIDEO: [
        *(
            "train",
            "model=resnet50",
            "data=synthetic_video",
            "engine=frames",
            "model/temporal=frame_max",
            "optimizer=adam",
        ),
        *("scheduler=step", "data.height=256", "data.width=128", "data.batch_size=3", "data.seq_len=10"),
        *("data.sampling=random", "data.consistent=false", "trainer.max_epochs=5"),
    ],
    TEST: [
        *("test", "data=cuhk03", "trainer=cpu", "weights='zoo/osnet x0_25.pth'", "data.cuhk03_labeled=true"),
        *("data.cuhk03_classic_split=true", "eval.normalize=true", "eval.protocol=cuhk03", "eval.max_rank=100"),
        *("eval.postprocess=[k_reciprocal]", "eval.steps.k_reciprocal.exponent=4"),
        *("callbacks.ranked_lists.choose=all", "callbacks.ranked_lists.each=true"),
        *("callbacks.ranked_lists.top_k=60", "eval.top_k=60"),
    ],
}
NAMES = {OSNET: "osnet", RESNET: "resnet", AIN: "ain", VIDEO: "video", TEST: "test"}


@pytest.fixture
def migrate(reidlit, tmp_path):
    """Run the command on YAML text; returns the arguments of the last printed command, and the remarks."""

    def run(content, *arguments):
        (tmp_path / "torchreid.yaml").write_text(content)
        result = reidlit("migrate", "torchreid.yaml", *arguments)
        assert result.status == 0, result.err
        run.printed = result.out
        lines = result.out.splitlines()
        remarks = " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))
        return shlex.split(result.out.replace("\\\n", " "), comments=True), remarks

    return run


def composed(command, overrides):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose(command, [each for each in overrides if not each.startswith("hydra.")])


@pytest.fixture
def translated():
    """Translate settings without a file; returns command, overrides and remarks."""

    def run(*pairs):
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            return translate(complete_settings(["train.seed", "1", *pairs], _compose))

    return run


@pytest.mark.parametrize("content", COMMANDS, ids=NAMES.get)
def test_published_configurations(content, migrate):
    args, _ = migrate(content)
    name, *command = args
    assert name == "reidlit"
    assert command[0] == COMMANDS[content][0]
    assert sorted(command) == sorted(COMMANDS[content])
    cfg = composed(command[0], command[1:])
    assert (cfg.data.height, cfg.data.width) == (256, 128)


def test_differences_are_reported(migrate):
    _, remarks = migrate(
        RESNET, "sampler.train_sampler", "RandomSampler", "train.lr_scheduler", "single_step", "test.eval_freq", "-1"
    )
    for message in ("- sampler.train_sampler: ", "- train.stepsize=[20, 40]: "):
        assert message in remarks
    assert "data.root" not in remarks
    assert "- test.eval_freq" not in remarks
    _, remarks = migrate(VIDEO, "model.resume", "a.pth", "test.rerank", "True", "test.eval_freq", "10")
    for message in (
        "- model.resume: ",
        "ckpt_path=last",
        "- test.rerank: ",
        "callbacks=best",
        "data.root",
    ):
        assert message in remarks, message


def test_pairs_override_the_file(migrate):
    args, _ = migrate(
        OSNET, *("model.name", "resnet50", "data.save_dir", "log", "data.transforms", "random_flip"), "train.lr", "3e-4"
    )
    assert sorted(args[1:]) == sorted(
        [
            *("train", "model=resnet50", "data=market1501", "model.pretrained=true", "data.test_batch_size=300"),
            *("optimizer.lr=0.0003", "callbacks.freeze.epochs=10", "trainer.max_epochs=250", "hydra.run.dir=log"),
        ]
    )


@pytest.mark.parametrize("content", [RESNET, VIDEO], ids=NAMES.get)
def test_experiment_composes_to_the_same_config(content, migrate, tmp_path, monkeypatch):
    arguments = ("train.seed", "3", "model.load_weights", "w.pth", "data.norm_mean", "0.5,0.5,0.5")
    command, _ = migrate(content, *arguments)
    args, _ = migrate(content, *arguments, "output=experiment/migrated.yaml")
    assert args[:5] == ["reidlit", "train", "--config-dir", ".", "experiment=migrated"]
    assert {"weights=w.pth", "seed=3"} <= set(args[5:])
    assert all(each.startswith(("weights=", "seed=", "hydra.")) for each in args[5:])
    monkeypatch.setenv("REIDLIT_DATA", "data")
    expected = composed("train", command[2:])
    assert expected.model.mean == [0.5] * 3
    path = f"hydra.searchpath=[file://{tmp_path}]"
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        actual = compose("train", [path, *(each for each in args[4:] if not each.startswith("hydra."))])
    assert OmegaConf.to_container(actual) == OmegaConf.to_container(expected)


def test_experiment_runs_with_printed_commands(migrate, reidlit, tmp_path):
    settings = (
        "data.sources",
        "synthetic",
        "data.targets",
        "synthetic",
        "data.root",
        tmp_path / "data",
        "model.name",
        "osnet_x0_25",
    )
    settings = (*settings, "model.pretrained", "False", "loss.name", "triplet", "loss.triplet.weight_x", "1.0")
    settings = (
        *settings,
        "train.max_epoch",
        "2",
        "train.fixbase_epoch",
        "1",
        "train.batch_size",
        "12",
        "use_gpu",
        "False",
    )
    args, _ = migrate(OSNET, *settings, "output=mine.yaml")
    mkdir, move, command = (tmp_path / "mine.yaml").parent / "experiment", args.index("mv"), args.index("reidlit")
    assert args[:2] == ["mkdir", "-p"]
    assert args[move : move + 3] == ["mv", "mine.yaml", "experiment"]
    mkdir.mkdir()
    (tmp_path / "mine.yaml").rename(mkdir / "mine.yaml")
    result = reidlit(*args[command + 1 :], *TINY, "callbacks.progress=null")
    assert result.status == 0, result.err
    assert (tmp_path / "log" / "osnet_x1_0" / "metrics.json").is_file()
    # Test the checkpoint with the translated test command.
    weights = tmp_path / "log" / "osnet_x1_0" / "checkpoints" / "last.ckpt"
    args, _ = migrate(
        OSNET,
        *settings,
        "test.evaluate",
        "True",
        "model.load_weights",
        weights,
        "test.rerank",
        "True",
        "data.save_dir",
        "t",
    )
    result = reidlit(*args[1:], *TINY, "callbacks.progress=null")
    assert result.status == 0, result.err
    assert "exponent=4" in (tmp_path / "t" / "metrics.json").read_text()


# --- every setting is translated

OTHERS = {
    "model.name": "resnet18",
    "data.type": "video",
    "data.sources": "msmt17",
    "data.targets": "msmt17",
    "data.transforms": "random_crop",
    "data.norm_mean": "0.5,0.5,0.5",
    "data.norm_std": "0.5,0.5,0.5",
    "sampler.train_sampler": "RandomDomainSampler",
    "sampler.train_sampler_t": "RandomIdentitySampler",
    "video.sample_method": "all",
    "train.optim": "rmsprop",
    "train.open_layers": "fc",
    "train.new_layers": "fc",
    "train.lr_scheduler": "cosine",
    "train.stepsize": "30",
    "loss.name": "triplet",
    "test.dist_metric": "cosine",
    "test.ranks": "1,3",
    "model.deploy": "both",
    "test.eval_freq": "5",
    "use_gpu": "False",
}


@pytest.mark.parametrize("name", TABLE)
def test_every_setting_is_translated_or_reported(name, translated):
    value = OTHERS.get(name)
    if value is None:
        default = TABLE[name].default
        value = not default if isinstance(default, bool) else f"{default}x" if isinstance(default, str) else default + 1
    context = {"data.type": ("data.sources", "mars", "data.targets", "mars")}.get(name, ())
    command, overrides, remarks = translated(*context, name, str(value))
    default_command, default_overrides, default_remarks = translated()
    named_remarks = [remark for remark in remarks if name in remark]
    assert command != default_command or overrides != default_overrides or named_remarks
    assert (command, overrides, remarks) != (default_command, default_overrides, default_remarks)


def test_table_contains_all_settings_of_torchreid():
    script = [
        name for name, row in TABLE.items() if not name.startswith("projects/") and row.needs not in (DML, OSNET_AIN)
    ]
    assert {name.partition(".")[0] for name in script} == {
        *(
            "model",
            "data",
            "market1501",
            "cuhk03",
            "sampler",
            "video",
            "train",
            "sgd",
            "rmsprop",
            "adam",
            "loss",
            "test",
        ),
        "use_gpu",
    }
    assert len(script) == 69 + len({"test.visactmap"})


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (
            (
                "loss.dml.weight_ml",
                "2",
                "model.deploy",
                "both",
                "model.name",
                "osnet_x1_0",
                "model.pretrained",
                "False",
            ),
            {"engine=mutual", "engine.weight=2.0", "engine.ensemble=true", "loss=softmax_triplet", "sampler=random"}
            | {"loss.weights.triplet=0.5", "model=osnet_x1_0"},
        ),
        (
            ("nas.mc_iter", "2", "nas.fixed_lmda", "True", "model.name", "a_network_of_the_project"),
            {"engine=architecture_search", "engine.temperature_decay=1.0", "engine.samples=2", "test=false"},
        ),
    ],
    ids=["mutual", "search"],
)
def test_projects(pairs, expected, migrate):
    args, _ = migrate("", *pairs, "data.sources", "synthetic", "data.targets", "synthetic")
    assert expected <= set(args)
    assert not any("pretrained" in word for word in args)
    composed("train", args[2:])


@pytest.mark.parametrize(
    "pairs",
    [
        ("train.optim", "adam", "adam.beta2", "0.99"),
        ("train.optim", "amsgrad", "train.lr_scheduler", "single_step", "train.stepsize", "2", "train.gamma", "0.5"),
        ("train.optim", "sgd", "sgd.nesterov", "True", "train.lr_scheduler", "multi_step", "train.stepsize", "2,3"),
        (
            "train.optim",
            "rmsprop",
            "sgd.momentum",
            "0.5",
            "rmsprop.alpha",
            "0.9",
            "train.lr_scheduler",
            "cosine",
            "train.max_epoch",
            "5",
        ),
        ("train.optim", "radam", "train.staged_lr", "True", "train.base_lr_mult", "0.3"),
    ],
)
def test_training_steps_equal_torchreid(pairs, migrate):
    args, _ = migrate("train: {lr: 0.1}", *pairs)
    cfg = composed("train", args[2:])
    specs = {part: OmegaConf.to_container(cfg[part], resolve=True) for part in ("optimizer", "scheduler")}
    settings = complete_settings(["train.lr", "0.1", *pairs], None)

    def network():
        torch.manual_seed(0)
        return nn.ModuleDict({"backbone": nn.Linear(4, 4), "classifier": nn.Linear(4, 2)})

    torchreid_network, reidlit_network = network(), network()
    torchreid_optim = pytest.importorskip("torchreid.reid.optim")
    torchreid_optimizer = torchreid_optim.build_optimizer(
        torchreid_network,
        optim=settings["train.optim"],
        lr=settings["train.lr"],
        weight_decay=settings["train.weight_decay"],
        momentum=settings["sgd.momentum"],
        sgd_nesterov=settings["sgd.nesterov"],
        rmsprop_alpha=settings["rmsprop.alpha"],
        adam_beta1=settings["adam.beta1"],
        adam_beta2=settings["adam.beta2"],
        staged_lr=settings["train.staged_lr"],
        new_layers=settings["train.new_layers"],
        base_lr_mult=settings["train.base_lr_mult"],
    )
    torchreid_schedule = torchreid_optim.build_lr_scheduler(
        torchreid_optimizer,
        settings["train.lr_scheduler"],
        stepsize=settings["train.stepsize"],
        gamma=settings["train.gamma"],
        max_epoch=settings["train.max_epoch"],
    )
    reidlit_optimizer = build_optimizer(reidlit_network, specs["optimizer"])
    reidlit_schedule = build_scheduler(reidlit_optimizer, specs["scheduler"])
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    for _ in range(5):
        for model, optimizer, schedule in (
            (torchreid_network, torchreid_optimizer, torchreid_schedule),
            (reidlit_network, reidlit_optimizer, reidlit_schedule),
        ):
            for _ in range(3):
                optimizer.zero_grad()
                model["classifier"](model["backbone"](x)).pow(2).mean().backward()
                optimizer.step()
            schedule.step()
    for (name, a), b in zip(torchreid_network.state_dict().items(), reidlit_network.state_dict().values(), strict=True):
        torch.testing.assert_close(b, a, rtol=2e-4, atol=2e-5, msg=lambda words, name=name: f"{name}: {words}")


def test_erased_pixels_equal_torchreid(migrate):
    args, _ = migrate(
        "", *("data.norm_mean", "0.4,0.5,0.6", "data.norm_std", "0.2,0.3,0.4", "data.transforms", "random_erase")
    )
    fill = composed("train", args[2:]).transforms.random_erase.fill
    for pixel, mean, std in zip(fill, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), strict=True):
        assert math.isclose((pixel / 255 - mean) / std, mean, abs_tol=0.5 / 255 / std)


# --- invalid input


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("train: {learning_rate: 1}", "'train.learning_rate'"),
        ("train: {lrr: 1}", "train.lr?"),
        ("nothing: {a: 1}", "'nothing'"),
        ("train: 3", "train=3"),
        ("- a", "torchreid.yaml "),
        ("train: {lr: fast}", "train.lr='fast' "),
        ("train: {lr: .nan}", "train.lr=nan "),
        ("train: {max_epoch: true}", "train.max_epoch=True "),
        ("train: {stepsize: []}", "train.stepsize=[] "),
        ("train: {optim: lamb}", "train.optim=lamb "),
        ("data: {norm_mean: [0.5]}", "data.norm_mean=[0.5] "),
        ("data: {root: 'a${oc.env:HOME}'}", "data.root="),
        ('model: {name: "x\\nrm -rf y"}', "model.name="),
        ("data: {sources: [nowhere]}", "data/nowhere"),
        ("model: {name: nothing}", "model/nothing"),
        ("data: {type: video}", "data.type=video "),
        (
            "model: {name: osnet_x0_25}\ntrain: {fixbase_epoch: 1, open_layers: [head]}",
            "['head']: model.name=osnet_x0_25",
        ),
        ("train: {fixbase_epoch: 1}\nloss: {name: triplet}", "train.fixbase_epoch=1 "),
        ("loss: {name: triplet, triplet: {weight_t: 0}}", "loss.triplet.weight_t=0 and loss.triplet.weight_x=0"),
        ("model: !!python/object/apply:os.system ['touch pwned']", "torchreid.yaml "),
        ("model: {name: !!python/name:os.system }", "torchreid.yaml "),
        ("a: [", "torchreid.yaml "),
        ("[" * 3000, "torchreid.yaml "),
        (
            "a: &a [x,x,x,x,x,x,x,x,x]\n"
            + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
            "torchreid.yaml ",
        ),
    ],
)
def test_invalid_files_raise(content, message, reidlit, tmp_path):
    (tmp_path / "torchreid.yaml").write_text(content)
    result = reidlit("migrate", "torchreid.yaml")
    assert result.status == 1
    assert message in result.err, result.err
    assert len(result.err) < 1000
    assert result.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["torchreid.yaml"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "im_osnet_x1_0.yaml"),
        (("nothing.yaml",), "nothing.yaml "),
        (("torchreid.yaml", "model.name"), "model.name "),
        (("torchreid.yaml", "output=osnet_x1_0.yaml"), "output=osnet_x1_0.yaml"),
        (("torchreid.yaml", "output=a.txt"), "output=a.txt "),
        (("torchreid.yaml", "output=torchreid.yaml"), "output=torchreid.yaml "),
        (("torchreid.yaml", "test.evaluate", "True", "output=a.yaml"), "output=a.yaml "),
        (("--config-dir", "own", "torchreid.yaml", "output=a.yaml"), "own/experiment"),
    ],
)
def test_invalid_arguments_raise(arguments, message, reidlit, tmp_path):
    (tmp_path / "torchreid.yaml").write_text(OSNET)
    (tmp_path / "own").mkdir()
    result = reidlit("migrate", *arguments)
    assert result.status == 1
    assert message in result.err
    assert result.out == ""


def test_custom_choices_are_found(reidlit, tmp_path):
    (tmp_path / "own" / "data").mkdir(parents=True)
    (tmp_path / "own" / "data" / "mine.yaml").write_text((CONFIG_DIR / "data" / "viper.yaml").read_text())
    result = reidlit(
        "migrate", "--config-dir", "own", "data.sources", "mine", "data.targets", "mine", "data.split_id", "4"
    )
    assert result.status == 0, result.err
    args = shlex.split(result.out.replace("\\\n", " "), comments=True)
    assert args[:4] == ["reidlit", "train", "--config-dir", str(tmp_path / "own")]
    assert {"data=mine", "data.split_id=4"} <= set(args)


NASTY = [
    *(r"a\b", "a\\", "it's", r"x\'y", "a b", "a,b", "[a]", " lead", "aé", "a=b", "~/x", "1/2", "1e5", "null", "-1", ""),
    *("$(touch x)", '"', "`touch x`", "!1", "; touch x", "'\"'"),
]


@pytest.mark.parametrize("value", NASTY)
def test_special_characters_survive_hydra_and_shell(value):
    override = OverridesParser.create().parse_override
    line = f"k={format_override([value, 1, None, {'a': True}])}"
    assert shlex.split(quote(line)) == [line]
    first, *others = override(line).value()
    assert getattr(first, "text", first) == value
    assert others == [1, None, {"a": True}]
    if "=" not in value and not value.startswith("~"):
        *_, images = _named("verify", ["x.jpg", value])
        assert [getattr(each, "text", each) for each in override(images).value()] == ["x.jpg", value]


def test_shell_runs_only_the_command(migrate, tmp_path):
    values = {"model.load_weights": "$(touch a)", "data.root": "it's `touch b`", "data.save_dir": "'; touch c #"}
    args, _ = migrate(
        json.dumps({"data": {"transforms": ["$(touch d)"]}}), *(each for pair in values.items() for each in pair)
    )
    overrides = OverridesParser.create().parse_overrides(args[2:])
    values_by_key = {each.key_or_group: getattr(each.value(), "text", each.value()) for each in overrides}
    assert [values_by_key[key] for key in ("weights", "data.root", "hydra.run.dir")] == list(values.values())
    script = "reidlit() { printf '%s\\n' \"$@\"; }\n" + migrate.printed
    process = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert process.stdout.splitlines() == args[1:]
    assert [path.name for path in tmp_path.iterdir()] == ["torchreid.yaml"]


def test_hydra_flags_keep_their_values():
    args = ["a.jpg", "--config-dir", "own", "b.jpg", "-c", "job", "fpr=1"]
    assert _named("verify", args) == ["--config-dir", "own", "-c", "job", "fpr=1", "images=[a.jpg,b.jpg]"]
