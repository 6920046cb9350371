"""`reidlit extract`: embed a dataset or a folder of images and save the embeddings."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from tqdm import tqdm

from reidlit.commands._data import build_datamodule
from reidlit.commands._extractor import build_extractor
from reidlit.commands._inputs import check_one_source, dataset_samples
from reidlit.commands._settings import current_run
from reidlit.console import say
from reidlit.data.frame_sampling import eval_clips
from reidlit.data.image_files import images_in_folder
from reidlit.data.sample import Sample, unlabelled_samples
from reidlit.data.video import VideoDataModule
from reidlit.foreign_files import expanded
from reidlit.inference.extractor import FeatureExtractor
from reidlit.inference.features import COLUMNS, Features, PartialFeatures, of_samples
from reidlit.locks import locked

Columns = dict[str, np.ndarray]


def run(cfg: DictConfig) -> None:
    """Embed the images or tracklets and write the features file.

    Raises:
        ValueError: If neither or both of `data` and `images` are given, there are no images, or `frames` is used with a
            dataset of images.
        BlockingIOError: If another process is writing the file.
    """
    check_one_source(cfg)
    file = expanded(cfg.output) if cfg.output else current_run().path / "features.npz"
    with locked(file, wait=False, name="output"):
        _extract(cfg, file)


def _extract(cfg: DictConfig, file: Path) -> None:
    extractor = build_extractor(cfg)
    datamodule = None if cfg.get("data") is None else build_datamodule(cfg)
    if cfg.frames and not isinstance(datamodule, VideoDataModule):
        raise ValueError("frames=true needs tracklets: give a video dataset, for example data=mars.")
    if datamodule is None:
        samples = {"": unlabelled_samples(images_in_folder(cfg.images))}
    else:
        samples = dataset_samples(datamodule, cfg.splits, f"splits={cfg.splits}")
    if isinstance(datamodule, VideoDataModule):
        features = embed_tracklets(extractor, samples, datamodule, file, cfg.frames)
    else:
        features = embed(extractor, _columns(samples), file)
    features.save(file)
    PartialFeatures.clear(file)
    say(f"{len(features):,} embeddings of size {features.embedding.shape[1]}: {file}")


def embed(extractor: FeatureExtractor, columns: Columns, file: Path) -> Features:
    """Embed images, resuming an interrupted run.

    Args:
        extractor: Extractor of the embeddings.
        columns: Columns of the features file, including `path` and `camid`.
        file: Features file to be written; embeddings of an interrupted run are stored next to it.
    """
    paths = columns["path"].tolist()
    partial = _resume(file, paths, extractor, "images")
    cameras = columns["camid"][partial.done :] if extractor.uses_cameras else None
    batches = extractor.stream(paths[partial.done :], cameras)
    partial.fill((range(on.start + partial.done, on.stop + partial.done), embedding) for on, embedding in batches)
    return Features(np.array(partial.embedding), **columns, fingerprint=extractor.fingerprint)


def embed_tracklets(
    extractor: FeatureExtractor,
    samples: dict[str, list[Sample]],
    datamodule: VideoDataModule,
    file: Path,
    frames: bool,
) -> Features:
    """Embed tracklets, or each of their frames, resuming an interrupted run.

    Args:
        extractor: Extractor of the embeddings.
        samples: Tracklets of each split.
        datamodule: Video dataset, whose `test_sampling` selects the frames.
        file: Features file to be written.
        frames: Whether to embed each frame separately.
    """
    sampled = {split: [_sampled(sample, datamodule) for sample in listed] for split, listed in samples.items()}
    if not frames:
        return _embed_tracklets(extractor, sampled, datamodule.seq_len, file)
    images = {split: [s._replace(path=path) for s in listed for path in s.path] for split, listed in sampled.items()}
    lengths = [len(sample.path) for listed in sampled.values() for sample in listed]
    columns = _columns(images) | {"tracklet": np.repeat(np.arange(len(lengths)), lengths)}
    return embed(extractor, columns, file)


def _embed_tracklets(
    extractor: FeatureExtractor, samples: dict[str, list[Sample]], seq_len: int, file: Path
) -> Features:
    listed = [sample for each in samples.values() for sample in each]
    partial = _resume(file, [sample.path for sample in listed], extractor, f"tracklets of {seq_len}")

    def stream() -> Iterator[tuple[range, Any]]:
        positions = range(partial.done, len(listed))
        for position in tqdm(positions, desc="embedding", unit="tracklet", disable=not extractor.progress):
            sample = listed[position]
            yield range(position, position + 1), extractor.tracklet(list(sample.path), sample.camid, seq_len)

    partial.fill(stream())
    return Features(np.array(partial.embedding), **_columns(samples), fingerprint=extractor.fingerprint)


def _resume(
    file: Path, paths: Sequence[str | tuple[str, ...]], extractor: FeatureExtractor, unit: str
) -> PartialFeatures:
    """Open the partial embeddings of an interrupted run for `file`, or create them."""
    partial = PartialFeatures(file, paths, extractor.embedding_size, f"{extractor.fingerprint} {unit}")
    if partial.done:
        say(f"resuming after {partial.done:,} of {len(paths):,} {unit.split()[0]}")
    return partial


def _sampled(sample: Sample, datamodule: VideoDataModule) -> Sample:
    """Return a tracklet with only the frames that `data.test_sampling` selects."""
    clips = eval_clips(len(sample.path), datamodule.seq_len, datamodule.test_sampling)
    return sample._replace(path=tuple(sample.path[index] for clip in clips for index in clip))


def _columns(samples: dict[str, list[Sample]]) -> Columns:
    splits = [of_samples(listed, split) for split, listed in samples.items()]
    return {name: np.concatenate([columns[name] for columns in splits]) for name in COLUMNS if name != "embedding"}
