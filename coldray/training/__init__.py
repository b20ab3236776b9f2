"""Batches, trainer and checkpoints."""

from coldray.training.backbone import Backbone
from coldray.training.settings import TrainingSettings
from coldray.training.trainer import train

__all__ = ["Backbone", "TrainingSettings", "train"]
