"""Full-catalogue ranking, metrics and significance."""

from coldray.evaluation.metrics import ndcg, recall, settings_table, summarise
from coldray.evaluation.ranking import Evaluation, Scorer, evaluate

__all__ = ["Evaluation", "Scorer", "evaluate", "ndcg", "recall", "settings_table", "summarise"]
