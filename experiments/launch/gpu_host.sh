#!/bin/bash
# One host with several GPUs: one process drives them all, so there is no launcher.
#
#   experiments/launch/gpu_host.sh experiments/base.py --mesh.fsdp 8
#
# Before: `pip install -e '.[cuda,tfds]'` in the clone's .venv. What is no mistake in the
# settings (2) and no wish to stop (130, 143) is tried again from the last checkpoint.
# Not run yet.
until .venv/bin/albert-jax pretrain "$@"; do
    code=$?
    case $code in 2 | 130 | 143) exit $code ;; esac
    echo "ended with $code; resuming in 10 s" >&2
    sleep 10
done
