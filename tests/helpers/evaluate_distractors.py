"""Evaluate random embeddings of the size of Market-1501 plus distractors, and print the peak memory of each step."""

import json
import sys
from pathlib import Path

import numpy as np

import reidlit


def peak():
    """Return the peak memory of this process in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000


def main(distractors):
    """Print the scores and the memory of each step, computed as differences of the peak, which never decreases."""
    noise = np.random.default_rng(0)
    people = noise.standard_normal((750, 512), np.float32)

    def labels(count):
        return np.arange(count) % 750, np.arange(count) // 750 % 6

    (q_pids, q_camids), (g_pids, g_camids) = labels(3368), labels(15913)
    query = people[q_pids]
    query += 0.5 * noise.standard_normal((3368, 512), np.float32)
    gallery = np.empty((15913 + distractors, 512), np.float32)
    noise.standard_normal(out=gallery, dtype=np.float32)
    gallery[:15913] *= 0.5
    gallery[:15913] += people[g_pids]
    g_pids, g_camids = np.pad(g_pids, (0, distractors), constant_values=-7), np.pad(g_camids, (0, distractors))
    subset = [array[::7] for array in (query, gallery[:15913], q_pids, g_pids[:15913], q_camids, g_camids[:15913])]
    reidlit.evaluate(*subset)  # compiles the kernels
    before = peak()
    scores = reidlit.evaluate(query, gallery, q_pids, g_pids, q_camids, g_camids)
    evaluated = peak()
    query @ gallery.T
    matrix = peak() - evaluated
    result = {"valid": scores.num_valid, "mAP": scores.mAP, "evaluation": evaluated - before, "matrix": matrix}
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]))
