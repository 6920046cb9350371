"""Extraction of embeddings from images with a trained model."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from reidlit.inference.backends import PRECISIONS, Backend, OnnxBackend, TorchBackend
from reidlit.inference.device import find_device
from reidlit.inference.image_inputs import Array, ImageInput, as_list, as_pixels, as_size, parse_image_size
from reidlit.inference.loading import DEFAULT_SIZE, TrainedModel, load_trained
from reidlit.models.model import ReIDModel
from reidlit.models.tracklet_embedding import embed_tracklets

BACKENDS = ("torch", "compile", "onnx")


class FeatureExtractor:
    """A trained model that embeds images of persons.

    The embedding of an image does not depend on its input type or on the batch, and equals the one of `reidlit test`.

    Exactly one of `model_path`, `model` and `trained` must be given.

    Args:
        model_name: Architecture of a weight file, a choice of conf/model such as `osnet_x1_0`. Checkpoints of
            `reidlit train` contain their architecture.
        model_path: Checkpoint of `reidlit train`, or weight file of Torchreid, fast-reid or reidlit.
        model: Model in memory.
        trained: Result of `load_trained`.
        image_size: Height and width in pixels to which images are resized. Default: the size stored in the checkpoint,
            otherwise 256 x 128.
        device: `cpu`, `cuda`, or `auto` for a GPU if one is available.
        batch_size: Number of images per batch.
        num_workers: Number of threads that decode and resize the next batch while the model runs; 0 for none.
        backend: `torch`, `compile` (`torch.compile`, slow to start) or `onnx` (ONNX Runtime on the CPU).
        precision: `fp32`, `bf16` or `fp16`.
        flip: Whether to average the embeddings of an image and its mirror image.
        normalize: Whether to scale embeddings to unit length.
        bgr: Whether array images have BGR channel order, as in OpenCV.
        progress: Whether to show a progress bar.

    Attributes:
        image_size: Height and width in pixels.
        embedding_size: Size D of an embedding.

    Raises:
        FileNotFoundError: If `model_path` does not exist.
        ValueError: If an argument is invalid, or the file does not contain weights of this architecture.

    Example:
        >>> from reidlit import FeatureExtractor
        >>> extractor = FeatureExtractor(model_path="last.ckpt", device="cpu")
        >>> embeddings = extractor(["a.jpg", "b.jpg"])
        >>> embeddings.shape
        torch.Size([2, 512])
    """

    def __init__(
        self,
        model_name: str | None = None,
        model_path: str | Path | None = None,
        model: ReIDModel | None = None,
        trained: TrainedModel | None = None,
        image_size: Sequence[int] | None = None,
        device: str = "auto",
        batch_size: int = 64,
        num_workers: int = 2,
        backend: Literal["torch", "compile", "onnx"] = "torch",
        precision: Literal["fp32", "bf16", "fp16"] = "fp32",
        flip: bool = False,
        normalize: bool = False,
        bgr: bool = False,
        progress: bool = False,
    ) -> None:
        sources = [source for source in (model_path, model, trained) if source is not None]
        if len(sources) != 1:
            raise ValueError(
                f"Exactly one of model_path, model and trained must be given, got {len(sources)}. Set model_path to a "
                "checkpoint of reidlit train, or to a weight file together with model_name."
            )
        for name, value, allowed in (("backend", backend, BACKENDS), ("precision", precision, tuple(PRECISIONS))):
            if value not in allowed:
                raise ValueError(f"{name}={value!r} is invalid: must be one of {', '.join(allowed)}.")
        for name, number, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
            if number < least:
                raise ValueError(f"{name}={number} is invalid: must be at least {least}.")
        self.trained = _load(sources[0], model_name, parse_image_size(image_size))
        self.image_size = self.trained.image_size
        self.embedding_size = self.trained.model.embedding_size
        self.batch_size, self.num_workers = batch_size, num_workers
        self.flip, self.normalize, self.bgr, self.progress = flip, normalize, bgr, progress
        self.backend = self._backend(backend, precision, find_device(device))

    def __call__(self, images: ImageInput | Sequence[ImageInput], camids: ArrayLike | Tensor | None = None) -> Tensor:
        """Embed images.

        Args:
            images: One image or a sequence of images: paths, (H, W, 3) uint8 arrays, PIL images, or (3, H, W) tensors
                of uint8 or of floats in [0, 1]. Types and sizes may be mixed. A batch (B, 3, H, W) or (B, H, W, 3)
                is accepted too.
            camids: Camera of each image (N,), required if the model uses cameras.

        Returns:
            Embeddings (N, D), float32 on the CPU.

        Raises:
            FileNotFoundError: If a path does not exist.
            ValueError: If an image cannot be read, or `camids` is required and missing.
        """
        batches = [embedding for _, embedding in self.stream(as_list(images), camids)]
        return torch.cat(batches) if batches else torch.empty(0, self.embedding_size)

    def stream(
        self, images: Sequence[ImageInput], camids: ArrayLike | Tensor | None = None
    ) -> Iterator[tuple[range, Tensor]]:
        """Embed images one batch at a time, so that finished batches can be stored.

        Args:
            images: Images as in `__call__`.
            camids: Camera of each image (N,), required if the model uses cameras.

        Yields:
            Positions of the images of a batch, and their embeddings (B, D).
        """
        cameras = self._cameras(len(images), camids)
        with tqdm(total=len(images), desc="embedding", unit="image", disable=not self.progress) as bar:
            for positions, batch in self._batches(images):
                embedding = self._embed(batch, None if cameras is None else cameras[positions.start : positions.stop])
                bar.update(len(positions))
                yield positions, embedding

    def tracklet(self, images: Sequence[ImageInput], camid: int | None = None, seq_len: int = 15) -> Tensor:
        """Embed a tracklet as `reidlit test` does with all frames.

        Args:
            images: Frames of one person from one camera in temporal order, in any form that `__call__` accepts.
            camid: Camera of the tracklet, required if the model uses cameras.
            seq_len: Number of frames per clip. The model pools over each clip, and the clip embeddings are averaged.

        Returns:
            Embedding (D,), float32 on the CPU.

        Raises:
            ValueError: If `images` is empty, the backend does not support clips, or the embedding is not finite.
        """
        if not len(images):
            raise ValueError("images is empty: a tracklet must have at least one frame.")
        if not self.backend.takes_clips:
            raise ValueError("backend='onnx' does not support tracklets: use backend='torch'.")
        frames = torch.cat([batch for _, batch in self._batches(images)])
        count = math.ceil(len(frames) / seq_len)
        padding = frames[-1:].expand(count * seq_len - len(frames), -1, -1, -1)
        clips = torch.cat([frames, padding]).view(count, seq_len, *frames.shape[1:])
        frame_mask = (torch.arange(count * seq_len) < len(frames)).view(count, seq_len)
        camera = self._camera_tensor(camid, 1)

        def embed(image: Tensor, camids: Tensor, frame_mask: Tensor) -> Tensor:
            return self.backend(image, camids if self.uses_cameras else None, frame_mask)

        tracklet = torch.zeros(count, dtype=torch.long)
        cameras = torch.zeros(1, dtype=torch.long) if camera is None else camera
        sides = [clips, clips.flip(-1)] if self.flip else [clips]
        embeddings = [embed_tracklets(embed, side, frame_mask, tracklet, cameras) for side in sides]
        return self._postprocess(torch.stack(embeddings).mean(0))[0]

    def crops(self, frame: ImageInput, boxes: ArrayLike | Tensor, camid: int | None = None) -> Tensor:
        """Embed the persons that a detector found in a frame.

        Args:
            frame: Complete frame, in any form that `__call__` accepts for an image.
            boxes: Boxes (N, 4) as left, top, right, bottom in pixels. Boxes are clipped to the frame.
            camid: Camera of the frame, required if the model uses cameras.

        Returns:
            Embeddings (N, D) in the order of the boxes, float32 on the CPU.

        Raises:
            ValueError: If `boxes` is not (N, 4), or a box lies outside the frame.
        """
        pixels = as_pixels(frame, self.bgr)
        corners = np.asarray(boxes, dtype=np.float64)
        if corners.size == 0:
            return torch.empty(0, self.embedding_size)
        if corners.ndim != 2 or corners.shape[1] != 4 or not np.isfinite(corners).all():
            raise ValueError(f"boxes has shape {corners.shape}: must be (N, 4) finite numbers.")
        height, width = pixels.shape[:2]
        left, top = np.floor(corners[:, :2]).clip(0, [width, height]).astype(int).T
        right, bottom = np.ceil(corners[:, 2:]).clip(0, [width, height]).astype(int).T
        if len(empty := np.flatnonzero((left >= right) | (top >= bottom))):
            raise ValueError(
                f"boxes[{empty[0]}]={corners[empty[0]].tolist()} lies outside the {width} x {height} frame: remove it."
            )
        crops = [pixels[t:b, x:r] for x, t, r, b in zip(left, top, right, bottom, strict=True)]
        batches = self._batches(crops, bgr=False)
        return torch.cat([self._embed(batch, self._camera_tensor(camid, len(span))) for span, batch in batches])

    @property
    def uses_cameras(self) -> bool:
        """Whether the model requires the camera of each image."""
        return self.trained.model.uses_cameras

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the weights, image size, `flip` and `normalize`. Only embeddings with equal hashes are comparable."""
        digest = hashlib.blake2b(repr((self.image_size, self.flip, self.normalize)).encode(), digest_size=8)
        for name, tensor in sorted(self.trained.model.state_dict().items()):
            if not name.startswith("classifier.") and not name.endswith("num_batches_tracked"):
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _backend(self, backend: str, precision: str, device: torch.device) -> Backend:
        if backend != "onnx":
            return TorchBackend(self.trained.model, self.image_size, device, precision, backend == "compile")
        if precision != "fp32" or device.type != "cpu":
            raise ValueError(
                f"backend='onnx' does not support device={str(device)!r} with precision={precision!r}: "
                "use device='cpu' and precision='fp32', or backend='torch'."
            )
        return OnnxBackend(self.trained.model, self.image_size)

    def _embed(self, batch: Tensor, camid: Tensor | None) -> Tensor:
        embedding = self.backend(batch, camid)
        if self.flip:
            embedding = (embedding + self.backend(batch.flip(-1), camid)) / 2
        return self._postprocess(embedding)

    def _postprocess(self, embedding: Tensor) -> Tensor:
        """Check embeddings (B, D), and normalize them if requested."""
        if not embedding.isfinite().all():
            raise ValueError(
                "The model returns NaN or infinite embeddings: use precision='fp32', or another checkpoint if its "
                "weights are corrupt."
            )
        return functional.normalize(embedding) if self.normalize else embedding

    def _batches(self, images: Sequence[ImageInput], bgr: bool | None = None) -> Iterator[tuple[range, Tensor]]:
        """Yield stacked batches; threads prepare the next batch while the caller uses the current one."""
        bgr = self.bgr if bgr is None else bgr
        starts = range(0, len(images), self.batch_size)
        spans = [range(start, min(start + self.batch_size, len(images))) for start in starts]

        def read(position: int) -> Array:
            return as_size(images[position], self.image_size, bgr)

        if not self.num_workers:
            for span in spans:
                yield span, _stacked([read(position) for position in span])
            return
        with ThreadPoolExecutor(self.num_workers) as pool:
            ahead: list[list[Future[Array]]] = []
            try:
                for number, span in enumerate(spans):
                    while len(ahead) < 2 and number + len(ahead) < len(spans):
                        ahead.append([pool.submit(read, position) for position in spans[number + len(ahead)]])
                    yield span, _stacked([future.result() for future in ahead.pop(0)])
            finally:
                for future in (future for batch in ahead for future in batch):
                    future.cancel()

    def _cameras(self, count: int, camids: ArrayLike | Tensor | None) -> Tensor | None:
        if not self.uses_cameras:
            return None
        if camids is None:
            raise ValueError("camids is missing: this model uses cameras, so pass the camera of each image.")
        cameras = torch.as_tensor(camids)
        if cameras.shape != (count,):
            raise ValueError(f"camids has shape {tuple(cameras.shape)}: must be ({count},), one camera per image.")
        return cameras.long()

    def _camera_tensor(self, camid: int | None, count: int) -> Tensor | None:
        return self._cameras(count, None if camid is None else torch.full((count,), camid))


def _stacked(images: list[Array]) -> Tensor:
    """(B, 3, H, W) uint8 with channels last in memory."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def _load(
    source: str | Path | ReIDModel | TrainedModel, model_name: str | None, image_size: tuple[int, int] | None
) -> TrainedModel:
    """Load a model file, or wrap a model in memory."""
    if isinstance(source, str | Path):
        return load_trained(source, model_name, image_size)
    if isinstance(source, TrainedModel):
        return source
    return TrainedModel(source, image_size or DEFAULT_SIZE, {})
