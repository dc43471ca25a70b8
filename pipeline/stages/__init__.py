"""The stages of dvc.yaml, each `python -m pipeline.stages.STAGE`; pipeline/base/handover.py says how one may begin."""

import os

if "VERSUS_WARM" in os.environ:
    from pipeline.base.handover import hand_over

    hand_over()
