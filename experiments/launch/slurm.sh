#!/bin/bash
# A SLURM cluster: one task a GPU, which JAX introduces to each other.
#
#   albert-jax prepare experiments/base.py
#   sbatch --nodes 4 experiments/launch/slurm.sh experiments/base.py --mesh.fsdp 8
#
# Before: the clone, its .venv (`pip install -e '.[cuda,tfds]'`), prepared/ and runs/ on
# a file system that all nodes share. Two minutes before the time is up, and when the
# job is preempted, every task gets a SIGTERM: all save after the same step and end with
# 143, and the job queues again. So it does when a task is killed or a node fails, from
# its last checkpoint. Run with SLURM 22.05, two tasks on one node, no GPU: `make slurm`.
#SBATCH --job-name=albert
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
srun --kill-on-bad-exit=1 .venv/bin/albert-jax pretrain "$@"
code=$?
if [ $code -gt 128 ]; then # By a signal.
    echo "ended with $code; queueing again" >&2
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
