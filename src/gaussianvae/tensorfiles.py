"""Tensors in safetensors files: lineages, shards, weights and checkpoints are written and read in one way."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gaussianvae.errors import GaussianVAEError
from gaussianvae.files import replacing


def write_tensors(
    path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], inputs: Iterable[Path | str] = ()
) -> None:
    """Write named tensors and texts atomically; tensors may share memory.

    Args:
        path: where to; must be none of `inputs`.
        tensors: any shapes and types.
        metadata: texts, among them `schema`.
        inputs: files that were read for it.
    """
    copies = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    with replacing(path, inputs) as beside:
        save_file(copies, beside, dict(metadata))


def read_tensors(
    path: Path | str, what: str, schema: str, skip: Container[str] = ()
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `write_tensors` wrote.

    Args:
        path: the file.
        what: its kind in words, for the error.
        schema: what its metadata must say.
        skip: names of tensors to leave on disk.

    Raises:
        GaussianVAEError: the file is missing, unreadable, or of another schema.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("schema") != schema:
                raise GaussianVAEError(f"{path}: no {what} (schema {metadata.get('schema')}, expected {schema})")
            return {name: file.get_tensor(name) for name in file.keys() if name not in skip}, metadata
    except (OSError, SafetensorError) as error:
        raise GaussianVAEError(f"{path}: no readable {what} ({error})") from error
