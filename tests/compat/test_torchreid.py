"""Configurations of Torchreid as commands of ours."""

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

# In the shape of Torchreid's published configurations.
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
    """Runs the command on the text of a YAML; gives the words of the last command that it prints, and its remarks."""

    def run(content, *arguments):
        (tmp_path / "theirs.yaml").write_text(content)
        result = reidlit("migrate", "theirs.yaml", *arguments)
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
    """The overrides and remarks of settings, without a file."""

    def run(*pairs):
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            return translate(complete_settings(["train.seed", "1", *pairs], _compose))

    return run


@pytest.mark.parametrize("content", COMMANDS, ids=NAMES.get)
def test_a_published_configuration(content, migrate):
    words, _ = migrate(content)
    name, *command = words
    assert name == "reidlit"
    assert command[0] == COMMANDS[content][0]
    assert sorted(command) == sorted(COMMANDS[content])
    cfg = composed(command[0], command[1:])
    assert (cfg.data.height, cfg.data.width) == (256, 128)


def test_what_differs_is_told(migrate):
    _, remarks = migrate(
        RESNET, "sampler.train_sampler", "RandomSampler", "train.lr_scheduler", "single_step", "test.eval_freq", "-1"
    )
    for words in ("sampler.train_sampler: with RandomSampler", "train.stepsize=[20, 40]: with single_step"):
        assert words in remarks
    assert "data.root" not in remarks
    assert "- test.eval_freq" not in remarks
    _, remarks = migrate(VIDEO, "model.resume", "a.pth", "test.rerank", "True", "test.eval_freq", "10")
    for words in (
        "model.resume: ",
        "ckpt_path=last",
        "test.rerank: not used by Torchreid, as test.evaluate is False",
        "callbacks=best",
        "data.root",
    ):
        assert words in remarks, words


def test_keys_and_values_after_the_file_count_more(migrate):
    words, _ = migrate(
        OSNET, *("model.name", "resnet50", "data.save_dir", "log", "data.transforms", "random_flip"), "train.lr", "3e-4"
    )
    assert sorted(words[1:]) == sorted(
        [
            *("train", "model=resnet50", "data=market1501", "model.pretrained=true", "data.test_batch_size=300"),
            *("optimizer.lr=0.0003", "callbacks.freeze.epochs=10", "trainer.max_epochs=250", "hydra.run.dir=log"),
        ]
    )


@pytest.mark.parametrize("content", [RESNET, VIDEO], ids=NAMES.get)
def test_an_experiment_composes_to_the_same(content, migrate, tmp_path, monkeypatch):
    arguments = ("train.seed", "3", "model.load_weights", "w.pth", "data.norm_mean", "0.5,0.5,0.5")
    command, _ = migrate(content, *arguments)
    words, _ = migrate(content, *arguments, "output=experiment/theirs_again.yaml")
    assert words[:5] == ["reidlit", "train", "--config-dir", ".", "experiment=theirs_again"]
    assert {"weights=w.pth", "seed=3"} <= set(words[5:])
    assert all(each.startswith(("weights=", "seed=", "hydra.")) for each in words[5:])
    monkeypatch.setenv("REIDLIT_DATA", "data")
    there = composed("train", command[2:])
    assert there.model.mean == [0.5] * 3
    path = f"hydra.searchpath=[file://{tmp_path}]"
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        here = compose("train", [path, *(each for each in words[4:] if not each.startswith("hydra."))])
    assert OmegaConf.to_container(here) == OmegaConf.to_container(there)


def test_an_experiment_runs_as_it_says(migrate, reidlit, tmp_path):
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
    words, _ = migrate(OSNET, *settings, "output=mine.yaml")
    mkdir, move, command = (tmp_path / "mine.yaml").parent / "experiment", words.index("mv"), words.index("reidlit")
    assert words[:2] == ["mkdir", "-p"]
    assert words[move : move + 3] == ["mv", "mine.yaml", "experiment"]
    mkdir.mkdir()
    (tmp_path / "mine.yaml").rename(mkdir / "mine.yaml")
    result = reidlit(*words[command + 1 :], *TINY, "callbacks.progress=null")
    assert result.status == 0, result.err
    assert (tmp_path / "log" / "osnet_x1_0" / "metrics.json").is_file()
    # And the checkpoint is what a test of Torchreid's would take.
    weights = tmp_path / "log" / "osnet_x1_0" / "checkpoints" / "last.ckpt"
    words, _ = migrate(
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
    result = reidlit(*words[1:], *TINY, "callbacks.progress=null")
    assert result.status == 0, result.err
    assert "exponent=4" in (tmp_path / "t" / "metrics.json").read_text()


# --- every setting counts

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
def test_every_setting_is_translated_or_named(name, translated):
    value = OTHERS.get(name)
    if value is None:
        default = TABLE[name].default
        value = not default if isinstance(default, bool) else f"{default}x" if isinstance(default, str) else default + 1
    context = {"data.type": ("data.sources", "mars", "data.targets", "mars")}.get(name, ())
    command, overrides, remarks = translated(*context, name, str(value))
    then, before, said = translated()
    told = [remark for remark in remarks if name in remark]
    assert command != then or overrides != before or told
    assert (command, overrides, remarks) != (then, before, said)


def test_table_has_the_settings_of_torchreid():
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
    words, _ = migrate("", *pairs, "data.sources", "synthetic", "data.targets", "synthetic")
    assert expected <= set(words)
    assert not any("pretrained" in word for word in words)
    composed("train", words[2:])


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
def test_the_weights_become_those_of_torchreid(pairs, migrate):
    words, _ = migrate("train: {lr: 0.1}", *pairs)
    cfg = composed("train", words[2:])
    specs = {part: OmegaConf.to_container(cfg[part], resolve=True) for part in ("optimizer", "scheduler")}
    told = complete_settings(["train.lr", "0.1", *pairs], None)

    def network():
        torch.manual_seed(0)
        return nn.ModuleDict({"backbone": nn.Linear(4, 4), "classifier": nn.Linear(4, 2)})

    theirs, ours = network(), network()
    torchreid_optim = pytest.importorskip("torchreid.reid.optim")
    their_optimizer = torchreid_optim.build_optimizer(
        theirs,
        optim=told["train.optim"],
        lr=told["train.lr"],
        weight_decay=told["train.weight_decay"],
        momentum=told["sgd.momentum"],
        sgd_nesterov=told["sgd.nesterov"],
        rmsprop_alpha=told["rmsprop.alpha"],
        adam_beta1=told["adam.beta1"],
        adam_beta2=told["adam.beta2"],
        staged_lr=told["train.staged_lr"],
        new_layers=told["train.new_layers"],
        base_lr_mult=told["train.base_lr_mult"],
    )
    their_schedule = torchreid_optim.build_lr_scheduler(
        their_optimizer,
        told["train.lr_scheduler"],
        stepsize=told["train.stepsize"],
        gamma=told["train.gamma"],
        max_epoch=told["train.max_epoch"],
    )
    our_optimizer = build_optimizer(ours, specs["optimizer"])
    our_schedule = build_scheduler(our_optimizer, specs["scheduler"])
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    for _ in range(5):
        for model, optimizer, schedule in (
            (theirs, their_optimizer, their_schedule),
            (ours, our_optimizer, our_schedule),
        ):
            for _ in range(3):
                optimizer.zero_grad()
                model["classifier"](model["backbone"](x)).pow(2).mean().backward()
                optimizer.step()
            schedule.step()
    for (name, a), b in zip(theirs.state_dict().items(), ours.state_dict().values(), strict=True):
        torch.testing.assert_close(b, a, rtol=2e-4, atol=2e-5, msg=lambda words, name=name: f"{name}: {words}")


def test_the_erased_pixels_are_torchreids(migrate):
    words, _ = migrate(
        "", *("data.norm_mean", "0.4,0.5,0.6", "data.norm_std", "0.2,0.3,0.4", "data.transforms", "random_erase")
    )
    fill = composed("train", words[2:]).transforms.random_erase.fill
    for pixel, mean, std in zip(fill, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), strict=True):
        assert math.isclose((pixel / 255 - mean) / std, mean, abs_tol=0.5 / 255 / std)


# --- mistakes


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("train: {learning_rate: 1}", "'train.learning_rate'"),
        ("train: {lrr: 1}", "Did you mean train.lr?"),
        ("nothing: {a: 1}", "'nothing'"),
        ("train: 3", "train=3"),
        ("- a", "theirs.yaml must contain settings by name"),
        ("train: {lr: fast}", "train.lr='fast' must be a number"),
        ("train: {lr: .nan}", "train.lr=nan must be a number"),
        ("train: {max_epoch: true}", "train.max_epoch=True must be a whole number"),
        ("train: {stepsize: []}", "train.stepsize=[] must be a list, each a whole number"),
        ("train: {optim: lamb}", "train.optim=lamb must be one of adam, amsgrad"),
        ("data: {norm_mean: [0.5]}", "data.norm_mean=[0.5] must be a list"),
        ("data: {root: 'a${oc.env:HOME}'}", "must be text in one line"),
        ('model: {name: "x\\nrm -rf y"}', "must be text in one line"),
        ("data: {sources: [nowhere]}", "data/nowhere"),
        ("model: {name: nothing}", "model/nothing"),
        ("data: {type: video}", "data.type=video, but market1501 is for data.type=image"),
        (
            "model: {name: osnet_x0_25}\ntrain: {fixbase_epoch: 1, open_layers: [head]}",
            "train.open_layers contains ['head'], but model.name=osnet_x0_25",
        ),
        ("train: {fixbase_epoch: 1}\nloss: {name: triplet}", "train.fixbase_epoch=1 needs loss.triplet.weight_x > 0"),
        ("loss: {name: triplet, triplet: {weight_t: 0}}", "loss.triplet.weight_t=0 and loss.triplet.weight_x=0"),
        ("model: !!python/object/apply:os.system ['touch pwned']", "theirs.yaml is not a YAML file"),
        ("model: {name: !!python/name:os.system }", "theirs.yaml is not a YAML file"),
        ("a: [", "theirs.yaml is not a YAML file"),
        ("[" * 3000, "theirs.yaml is not a YAML file"),
        (
            "a: &a [x,x,x,x,x,x,x,x,x]\n"
            + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
            "'a'",
        ),
    ],
)
def test_mistakes_are_named(content, words, reidlit, tmp_path):
    (tmp_path / "theirs.yaml").write_text(content)
    result = reidlit("migrate", "theirs.yaml")
    assert result.status == 1
    assert words in result.err, result.err
    assert len(result.err) < 1000
    assert result.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.yaml"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give a YAML file of Torchreid"),
        (("nothing.yaml",), "nothing.yaml does not exist"),
        (("theirs.yaml", "model.name"), "model.name has no value"),
        (("theirs.yaml", "output=osnet_x1_0.yaml"), "output=osnet_x1_0.yaml"),
        (("theirs.yaml", "output=a.txt"), "output=a.txt must be named <name>.yaml"),
        (("theirs.yaml", "output=theirs.yaml"), "output=theirs.yaml already exists"),
        (("theirs.yaml", "test.evaluate", "True", "output=a.yaml"), "test.evaluate is True"),
        (("--config-dir", "own", "theirs.yaml", "output=a.yaml"), "own/experiment"),
    ],
)
def test_mistakes_of_the_command_are_named(arguments, words, reidlit, tmp_path):
    (tmp_path / "theirs.yaml").write_text(OSNET)
    (tmp_path / "own").mkdir()
    result = reidlit("migrate", *arguments)
    assert result.status == 1
    assert words in result.err
    assert result.out == ""


def test_options_of_ones_own_are_known(reidlit, tmp_path):
    (tmp_path / "own" / "data").mkdir(parents=True)
    (tmp_path / "own" / "data" / "mine.yaml").write_text((CONFIG_DIR / "data" / "viper.yaml").read_text())
    result = reidlit(
        "migrate", "--config-dir", "own", "data.sources", "mine", "data.targets", "mine", "data.split_id", "4"
    )
    assert result.status == 0, result.err
    words = shlex.split(result.out.replace("\\\n", " "), comments=True)
    assert words[:4] == ["reidlit", "train", "--config-dir", str(tmp_path / "own")]
    assert {"data=mine", "data.split_id=4"} <= set(words)


NASTY = [
    *(r"a\b", "a\\", "it's", r"x\'y", "a b", "a,b", "[a]", " lead", "aé", "a=b", "~/x", "1/2", "1e5", "null", "-1", ""),
    *("$(touch x)", '"', "`touch x`", "!1", "; touch x", "'\"'"),
]


@pytest.mark.parametrize("value", NASTY)
def test_any_text_survives_hydra_and_the_shell(value):
    override = OverridesParser.create().parse_override
    line = f"k={format_override([value, 1, None, {'a': True}])}"
    assert shlex.split(quote(line)) == [line]
    first, *others = override(line).value()
    assert getattr(first, "text", first) == value
    assert others == [1, None, {"a": True}]
    if "=" not in value and not value.startswith("~"):
        *_, images = _named("verify", ["x.jpg", value])
        assert [getattr(each, "text", each) for each in override(images).value()] == ["x.jpg", value]


def test_the_shell_runs_nothing_but_the_command(migrate, tmp_path):
    values = {"model.load_weights": "$(touch a)", "data.root": "it's `touch b`", "data.save_dir": "'; touch c #"}
    words, _ = migrate(
        json.dumps({"data": {"transforms": ["$(touch d)"]}}), *(each for pair in values.items() for each in pair)
    )
    found = OverridesParser.create().parse_overrides(words[2:])
    told = {each.key_or_group: getattr(each.value(), "text", each.value()) for each in found}
    assert [told[key] for key in ("weights", "data.root", "hydra.run.dir")] == list(values.values())
    script = "reidlit() { printf '%s\\n' \"$@\"; }\n" + migrate.printed
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == words[1:]
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.yaml"]


def test_hydras_flags_keep_their_values():
    words = ["a.jpg", "--config-dir", "own", "b.jpg", "-c", "job", "fpr=1"]
    assert _named("verify", words) == ["--config-dir", "own", "-c", "job", "fpr=1", "images=[a.jpg,b.jpg]"]
