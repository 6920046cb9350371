"""Evaluate drawn embeddings of Market-1501's sizes and the given number of distractors; print the peaks of memory."""

import json
import sys
from pathlib import Path

import numpy as np

import reidlit


def peak():
    """The most that this process ever held, in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000


def main(distractors):
    """Before, with, and after the evaluation the peak can only rise, so each step's share of it is a difference."""
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
    first = [part[::7] for part in (query, gallery[:15913], q_pids, g_pids[:15913], q_camids, g_camids[:15913])]
    reidlit.evaluate(*first)  # compiles
    before = peak()
    scores = reidlit.evaluate(query, gallery, q_pids, g_pids, q_camids, g_camids)
    evaluated = peak()
    query @ gallery.T
    matrix = peak() - evaluated
    found = {"valid": scores.num_valid, "mAP": scores.mAP, "evaluation": evaluated - before, "matrix": matrix}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]))
