"""Settings and metrics in the log files of Torchreid's `scripts/main.py`."""

import re
from pathlib import Path

LOG = re.compile(r"(train|test)\.log.*")
DATASET = re.compile(r"##### Evaluating (\S+) ")
SETTING = re.compile(r"( *)([^ :]+): *(.*)")
METRIC = re.compile(r"(?:(mAP)|Rank-(\d+)) *: *(\S+)%")


def is_log(name: str) -> bool:
    """Return True if a file name is that of a Torchreid log."""
    return LOG.fullmatch(name) is not None


def read_log(log: Path) -> tuple[dict[str, str], dict[str, float]]:
    """Read the settings, and the last metrics of each dataset.

    Args:
        log: Text file; unknown lines are skipped.

    Returns:
        The settings by dotted name (empty if the log has none), and the metrics as fractions by names such as
        `test/market1501/rank1`.
    """
    settings: dict[str, str] = {}
    results: dict[str, dict[str, float]] = {}
    setting_path: list[str] = []  # components of the dotted name
    dataset, section = "", ""
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if line == "Show configuration":
            section = "settings"
        elif line == "** Results **":
            section = "results"
            results[dataset] = {}
        elif match := DATASET.match(line):
            dataset = f"{match[1]}/"
        elif section == "settings" and (match := SETTING.fullmatch(line)):
            setting_path = [*setting_path[: len(match[1]) // 2], match[2]]  # two spaces per level
            if match[3]:
                settings[".".join(setting_path)] = match[3]
        elif section == "results" and (match := METRIC.match(line)):
            results[dataset][match[1] or f"rank{match[2]}"] = float(match[3]) / 100
        elif line != "CMC curve":
            section = ""
    metrics = {f"test/{name}{key}": value for name, scores in results.items() for key, value in scores.items()}
    return settings, metrics
