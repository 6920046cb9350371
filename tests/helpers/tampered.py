"""Tampered files: ways to change an intact file of each format, by name. Each takes the path and changes the file."""

import json
import os
import zipfile
from collections import OrderedDict

import numpy as np
import pyarrow as pa
import torch
from pyarrow import parquet


def edit_json(file, **changes):
    """Change the keys of a JSON object that end in a name."""
    content = json.loads(file.read_text())
    for name, value in changes.items():
        matching = [key for key in content if key.rpartition("/")[2] == name] or [name]
        content |= dict.fromkeys(matching, value)
    file.write_text(json.dumps(content))


def text(content):
    return lambda file: file.write_bytes(content if isinstance(content, bytes) else content.encode())


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def metric(**changes):
    return lambda file: edit_json(file, **changes)


ANY = {  # for every format
    "empty": text(b""),
    "cut": cut,
    "binary": text(bytes(range(256)) * 20),
    "web page": text("<!DOCTYPE html><html>not found</html>"),
}
JSON = {
    "list": text("[1, 2]"),
    "number": text("3"),
    "null": text("null"),
    "deep": text("[" * 100_000),
    "not UTF-8": text(b'{"a": "\xff"}'),
    "huge number": text('{"test/x/mAP": ' + "9" * 10_000 + "}"),
}
METRICS = {
    **JSON,
    "text as score": metric(mAP="high"),
    "list as score": metric(mAP=[0.5], rank1={}),
    "huge score": metric(mAP=10**400, loss=10**400),
    "NaN score": metric(mAP=float("nan")),
    "null intervals": metric(intervals=None),
    "text in intervals": metric(intervals={"mAP": ["low", "high"]}),
    "short intervals": metric(intervals={"mAP": [0.5]}),
    "list of intervals": metric(intervals=[1]),
    "ROC without tpr": metric(roc={"fpr": [0.1]}),
    "ROC of other lengths": metric(roc={"fpr": [0.1], "tpr": [0.1, 0.2], "threshold": [1]}),
    "ROC of text": metric(roc="curve"),
    "histogram of other lengths": metric(histogram={"edges": [0, 1], "positive": [1, 2], "negative": [1]}),
    "histogram of text": metric(histogram={"edges": ["a", "b"], "positive": [1], "negative": [1]}),
    "ragged camera pairs": metric(camera_pairs={"q_camids": [0, 1], "g_camids": [0], "mAP": [[0.5]]}),
    "text in camera pairs": metric(camera_pairs={"q_camids": [0], "g_camids": [0], "mAP": [["x"]]}),
    "camera pairs of text": metric(camera_pairs="x"),
    "list as protocol": metric(protocol=["x"]),
    "text as count": metric(num_valid="3", num_queries=[], num_absent="many"),
    "list of thresholds": metric(thresholds=[1]),
    "text as AUC": metric(AUC="x", EER=None),
}
ENVIRONMENT = {**JSON}
CALIBRATION = {
    **JSON,
    "no keys": text("{}"),
    "unknown key": metric(other=1),
    "text as rates": metric(fpr="abc"),
    "texts as thresholds": metric(threshold=["a"] * 3),
    "other length": metric(fpr=[0.1]),
    "another metric": metric(metric="hamming"),
    "list as metric": metric(metric=["euclidean"]),
    "text as flip": metric(flip="yes"),
}
TABLE = {
    "no columns": lambda file: parquet.write_table(pa.table({"other": [1]}), file),
    **{
        f"without {name}": lambda file, name=name: _with(file, lambda table: table.drop_columns([name]))
        for name in ("dataset", "ap", "first_match", "num_matches", "path", "pid", "camid", "nearest", "distance")
    },
    **{
        f"{name} as {kind}": lambda file, name=name, values=values: _with_column(file, name, values)
        for name in ("dataset", "ap", "first_match", "num_matches", "path", "pid", "camid", "nearest", "distance")
        for kind, values in {
            "text": lambda count: pa.array(["x"] * count),
            "null": lambda count: pa.nulls(count),
            "numbers and nulls": lambda count: pa.array([1, *[None] * (count - 1)]),
            "ragged lists": lambda count: pa.array([[1] * (row % 3) for row in range(count)]),
            "bytes": lambda count: pa.array([b"\xff"] * count),
            "negative": lambda count: pa.array([-5] * count),
            "huge": lambda count: pa.array([2**62] * count),
            "NaN": lambda count: pa.array([float("nan")] * count),
        }.items()
    },
}


def _with(file, change):
    parquet.write_table(change(parquet.read_table(file)), file)


def _with_column(file, name, values):
    _with(file, lambda table: table.set_column(table.column_names.index(name), name, values(len(table))))


YAML = {
    "list": text("[a, b]\n"),
    "text": text("word\n"),
    "null": text("null\n"),
    "alias bomb": text("a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))),
    "object": text("!!python/object/apply:os.mkdir [ran]\n"),
    "duplicate key": text("a: 1\na: 2\n"),
    "number as key": text("1: 2\n? [a]\n: b\n"),
    "deep": text("[" * 5000),
}
CONFIG = {
    **YAML,
    "no data": text("seed: 1\n"),
    "text as data": text("data: x\ntransforms: y\nsampler: z\nmodel: w\n"),
    "list as model": text("model: [1]\n"),
    "cyclic references": text("a: ${b}\nb: ${a}\nmodel: {weights: '${a}'}\n"),
    "reference bomb": text("a0: xxxxxxxxxx\n" + "".join(f"a{n}: '${{a{n - 1}}}${{a{n - 1}}}'\n" for n in range(1, 60))),
}
LOG = {
    "no header": text("0,1,0.5\n"),
    "without step": text("epoch,train/loss\n0,0.5\n"),
    "text as value": text("epoch,step,train/loss\n0,1,high\n"),
    "text as step": text("epoch,step,train/loss\n0,one,0.5\n"),
    "infinite": text("epoch,step,train/loss\n0,1,inf\n0,2,1e308\n0,3,-1e308\n"),
    "long line": text("epoch,step,train/loss\n0,1,0.5,3,4,5\n"),
    "huge field": text("epoch,step,train/loss\n0,1," + "9" * 200_000 + "\n"),
    "NUL": text(b"epoch,step,train/loss\n0,1,\0\n"),
    "unclosed quote": text('epoch,step,train/loss\n0,1,"0.5\n'),
}


def tensors(change):
    """Change the state dict of a weight file or checkpoint."""

    def write(file):
        content = torch.load(file, weights_only=True)
        inner = content.get("state_dict", content)
        change(inner)
        torch.save(content, file)

    return write


def _each(convert):
    def change(state):
        for name, tensor in list(state.items()):
            state[name] = convert(tensor)

    return change


def _first(convert):
    def change(state):
        name = next(name for name, tensor in state.items() if tensor.ndim == 4)
        state[name] = convert(state[name])

    return change


WEIGHTS = {
    "quantized": tensors(_first(lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8))),
    "sparse": tensors(_first(lambda tensor: tensor.to_sparse())),
    "meta": tensors(_first(lambda tensor: tensor.to("meta"))),
    "zero-size": tensors(_first(lambda tensor: tensor[:0])),
    "scalar": tensors(_first(lambda tensor: tensor.sum())),
    "all zero-size": tensors(_each(lambda tensor: tensor.reshape(-1)[:0])),
    "all scalars": tensors(_each(lambda tensor: tensor.float().sum())),
    "complex": tensors(_first(lambda tensor: tensor.to(torch.complex64))),
    "fp8": tensors(_first(lambda tensor: tensor.to(torch.float8_e4m3fn))),
    "expanded": tensors(_each(lambda tensor: torch.zeros(1).expand(2**36) if tensor.ndim == 2 else tensor)),
    "numbers as names": tensors(lambda state: state.update({3: torch.zeros(2)})),
    "no tensors": tensors(lambda state: (state.clear(), state.update(a=1))),
    "a list": lambda file: torch.save([1, 2], file),
    "a tensor": lambda file: torch.save(torch.zeros(3), file),
    "a number": lambda file: torch.save(3, file),
    "a text": lambda file: torch.save("x", file),
    "an empty dict": lambda file: torch.save({}, file),
    "a list as state": lambda file: torch.save({"state_dict": [1]}, file),
    "a nested state": lambda file: torch.save({"state_dict": OrderedDict(a={"b": torch.zeros(2)})}, file),
    "a bomb": lambda file: _zip_bomb(file),
    "other zip": lambda file: _zip(file, {"a.txt": b"x"}),
}


def _zip(file, members):
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def _zip_bomb(file):
    """Compress a gigabyte of zeros."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("archive/data.pkl", "w") as member:
        for _ in range(64):
            member.write(bytes(2**24))


def checkpoint(change):
    def write(file):
        content = torch.load(file, weights_only=True)
        change(content)
        torch.save(content, file)

    return write


def hyper(**changes):
    return checkpoint(lambda content: content["hyper_parameters"].update(changes))


def shared(levels=60):
    content = {}
    for _ in range(levels):
        content = {"a": content, "b": content}
    return content


def cycle():
    content = {}
    content["again"] = content
    return content


CHECKPOINT = {
    **{
        f"without {name}": checkpoint(lambda content, name=name: content.pop(name, None))
        for name in ("state_dict", "hyper_parameters", "pytorch-lightning_version")
    },
    **{
        f"hyperparameters without {name}": checkpoint(lambda content, name=name: content["hyper_parameters"].pop(name))
        for name in ("model", "pids", "image_size", "optimizer", "loss")
    },
    **{
        f"{name} as {kind}": checkpoint(lambda content, name=name, value=value: content.update({name: value}))
        for name in ("state_dict", "hyper_parameters", "pytorch-lightning_version", "hparams_type", "hparams_name")
        for kind, value in {"number": 3, "list": [1], "text": "x", "null": None}.items()
    },
    **{
        f"{name}={value}": hyper(**{name: value})
        for name in ("model", "pids", "image_size", "evaluation", "channels_last")
        for value in (None, 3, "x", [], [0], [-1, 5], {"a": 1})
    },
    "huge image": hyper(image_size=[2**40, 2**40]),
    "unknown hyperparameter": hyper(unknown=1),
    "model without target": hyper(model={"backbone": {}}),
    "shared dicts": hyper(loss=shared()),
    "cyclic dicts": hyper(loss=cycle()),
    "shared settings": checkpoint(lambda content: content.update(run_settings=shared())),
    "settings as list": checkpoint(lambda content: content.update(run_settings=[1])),
    "other shapes": tensors(_first(lambda tensor: tensor[:1])),
    "calibration as list": checkpoint(lambda content: content.update(calibration=[1])),
    "calibration without keys": checkpoint(lambda content: content.update(calibration={"fpr": 3})),
}
RESUMED = {  # state that only resuming reads
    **{
        f"without {name}": checkpoint(lambda content, name=name: content.pop(name, None))
        for name in ("optimizer_states", "lr_schedulers", "loops", "callbacks", "epoch", "global_step")
    },
    **{
        f"{name} as {kind}": checkpoint(lambda content, name=name, value=value: content.update({name: value}))
        for name in ("optimizer_states", "lr_schedulers", "loops", "callbacks", "epoch", "global_step")
        for kind, value in {"number": -3, "list": [1], "text": "x", "null": None, "dict": {"a": 1}}.items()
    },
    "loop as text": checkpoint(lambda content: content["loops"].update(fit_loop="x")),
    "progress as text": checkpoint(
        lambda content: content["loops"]["fit_loop"]["epoch_progress"]["current"].update(processed="x")
    ),
    "progress without counts": checkpoint(
        lambda content: content["loops"]["fit_loop"]["epoch_progress"].update(current={})
    ),
}


def arrays(**changes):
    """Change arrays of a .npz file; None removes one."""

    def write(file):
        with np.load(file, allow_pickle=False) as content:
            values = {**content, **changes}
        np.savez(file, **{name: value for name, value in values.items() if value is not None})

    return write


def _claim(file, name="embedding.npy", shape=(2**30, 1024)):
    """Claim more values in the header of an array than the file has."""
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }" % shape
    header += b" " * (117 - len(header)) + b"\n"
    members[name] = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + members[name][128:]
    _zip(file, members)


ARRAYS = {
    "a header that claims 2^40 values": _claim,
    "a header of negative size": lambda file: _claim(file, shape=(-1, 4)),
    "a bomb": _zip_bomb,
    "other zip": lambda file: _zip(file, {"a.txt": b"x"}),
    "a single array": lambda file: np.save(file.open("wb"), np.zeros(3)),
    "objects": lambda file: np.savez(file.open("wb"), embedding=np.array([{}], object)),
    "no embedding": arrays(embedding=None),
    "embedding as text": arrays(embedding=np.array([["a"]])),
    "embedding as integers": arrays(embedding=np.zeros((3, 3), np.int64)),
    "embedding as scalar": arrays(embedding=np.float32(3)),
    "embedding of another length": arrays(embedding=np.zeros((2, 3), np.float32)),
    "complex embedding": arrays(embedding=np.zeros((3, 3), np.complex64)),
    "structured embedding": arrays(embedding=np.zeros((3, 3), [("a", "f4")])),
    "NaN embedding": arrays(embedding=np.full((2, 512), np.nan, np.float32)),
}
FEATURES = {
    **ARRAYS,
    **{f"no {name}": arrays(**{name: None}) for name in ("path", "pid", "camid", "split", "tracklet", "fingerprint")},
    **{f"{name} as float": arrays(**{name: np.zeros(3)}) for name in ("path", "pid", "camid", "split", "tracklet")},
    "pids as text": arrays(pid=np.array(["a", "b", "c"])),
    "path as bytes": arrays(path=np.array([b"\xff"] * 3)),
}
GALLERY = {
    **ARRAYS,
    **{
        f"no {name}": arrays(**{name: None})
        for name in ("about", "paths", "format", "next_id", "metric", "fingerprint")
    },
    "another metric": arrays(metric=np.array("hamming")),
    "list of metrics": arrays(metric=np.array(["euclidean", "cosine"])),
    "text as format": arrays(format=np.array("x")),
    "text as next id": arrays(next_id=np.array("x")),
    "huge next id": arrays(next_id=np.array(2.0**80)),
}
TABLE_OF_IMAGES = {
    "without pid": text("path,camid\na.jpg,1\n"),
    "huge field": text("path,pid\na.jpg," + "9" * 200_000 + "\n"),
    "NUL": text(b"path,pid\na\0.jpg,1\n"),
    "not UTF-8": text(b"path,pid\n\xff.jpg,1\n"),
    "unclosed quote": text('path,pid\n"a.jpg,1\n'),
    "huge number": text("path,pid\na.jpg," + "9" * 5000 + "\n"),
    "folders": text("path,pid\n.,1\n..,2\n"),
    "devices": text("path,pid\n/dev/zero,1\n/dev/stdin,2\n"),
    "long name": text("path,pid\n" + "a" * 5000 + ".jpg,1\n"),
    "unknown user": text("path,pid\n~nobody-x/a.jpg,1\n~/b.jpg,2\n"),
}


def fifo(file):
    file.unlink()
    os.mkfifo(file)
