"""`versus launch`: the trainings of a study, or of a grid of experiments, beside each other.

DVC runs a study's stages one after the other. Here plan.py asks DVC which of them are to run; each training with what
follows it alone (its evaluation) is a job, in a clone of its own (copies.py, job.py) that shares DVC's cache and
run-cache; an executor (local.py, slurm.py) says where jobs run. launcher.py has them prepared (prepare.py), submitted
and watched (watch.py); state.py is what other terminals see of it (status.py). A `dvc repro` in the user's checkout
then takes everything from the run-cache.
"""
