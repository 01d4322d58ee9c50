#!/bin/bash
# A study as a SLURM array: one run a task, each with a GPU of its own.
#
#   albert-jax study experiments/ablations/sharing.py --scale paper --together 1 --prepare
#   sbatch --array=0-39 experiments/launch/slurm_study.sh \
#       experiments/ablations/sharing.py --scale paper --together 1
#   albert-jax report runs/sharing-paper
#
# --prepare tokenises the corpus, fixes every arm's steps (for equal time it measures
# them: let it run where the tasks will), lists the runs and prints the sbatch line.
# Before: as in slurm.sh. A task that gets a signal saves and queues again, and so does
# one whose run starts from another that is not finished yet (75). Run with SLURM 22.05,
# an array of eight tasks on one node, no GPU: `make slurm`.
#SBATCH --job-name=albert-study
#SBATCH --ntasks=1
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
srun .venv/bin/albert-jax study "$@" --array-task "$SLURM_ARRAY_TASK_ID"
code=$?
if [ $code -gt 128 ] || [ $code -eq 75 ]; then
    echo "ended with $code; queueing again" >&2
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
