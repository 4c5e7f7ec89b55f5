"""Warnings of Lightning and torch that say nothing of ours: for ``pytest.mark.filterwarnings``."""

QUIET = (
    "ignore:.*treespec.*",
    "ignore:.*litlogger.*",
    "ignore:.*does not have many workers.*",
    "ignore:.*Checkpoint directory.*",
    "ignore:.*number of training batches.*",
    "ignore:.*lr_scheduler.step.*",
)
