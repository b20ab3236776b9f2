"""Residual transfer: the warm items nearest to a cold item lend it what training taught them.

Plain functions over NumPy or Torch arrays: no cluster, no files.
"""

from coldray.transfer.alignment import alignment
from coldray.transfer.gate import Gate
from coldray.transfer.judge import Probe
from coldray.transfer.modalities import Spaces, pooled
from coldray.transfer.neighbors import Index, Neighbors, nearest_warm
from coldray.transfer.residuals import Modality, Transfer, TransferSettings, propagate, transfer_residuals
from coldray.transfer.selection import Choice, ProbeSet, SelectionSettings, select_transfer

__all__ = [
    "Choice",
    "Gate",
    "Index",
    "Modality",
    "Neighbors",
    "Probe",
    "ProbeSet",
    "SelectionSettings",
    "Spaces",
    "Transfer",
    "TransferSettings",
    "alignment",
    "nearest_warm",
    "pooled",
    "propagate",
    "select_transfer",
    "transfer_residuals",
]
