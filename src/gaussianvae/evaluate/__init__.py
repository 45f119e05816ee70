"""Judging a splat at a finer resolution than it was trained at: rows, metrics, tables, pictures."""

from gaussianvae.evaluate.evaluate import Evaluation, evaluate
from gaussianvae.evaluate.protocol import Protocol, choose_protocol
from gaussianvae.evaluate.rows import Method, Row

__all__ = ["Evaluation", "Method", "Protocol", "Row", "choose_protocol", "evaluate"]
