#!/bin/bash
# A Cloud TPU pod: the same command on every host, which find each other by themselves.
#
#   experiments/launch/tpu_pod.sh POD ZONE experiments/base.py \
#       --corpus.prepared /mnt/albert/prepared --workdir /mnt/albert/base --mesh.fsdp 8
#
# Before: on every host a clone in ~/albert_jax with `pip install -e '.[tpu,tfds]'` in
# its .venv, and one file system mounted on all (Filestore, say): the corpus is read from
# it and the checkpoints go to it. Prepare the corpus beforehand on any machine; the
# hosts of a pod would wait for the first of them to do it.
#
# A host that is told to stop (SIGTERM) makes all save and end; the same line resumes.
# Not run yet.
set -euo pipefail
pod=$1 zone=$2
shift 2
gcloud compute tpus tpu-vm ssh "$pod" --zone "$zone" --worker all --command \
    "cd albert_jax && .venv/bin/albert-jax pretrain $(printf '%q ' "$@")"
