#!/usr/bin/env bash
# Trains a language model on several nodes of a SLURM cluster; what follows the script's name goes to `audiogen train-lm`:
#
#   sbatch --nodes=8  recipes/slurm/train-lm.sh --size base  --tokens data/tokens --out runs/lm-base     64 GPUs
#   sbatch --nodes=16 recipes/slurm/train-lm.sh --size large --tokens data/tokens --out runs/lm-large   128 GPUs
#
# One task a node starts one process a GPU. Near the time limit SLURM sends SIGTERM: the run saves after its step, and
# the job asks to be put into the queue again, where the same command goes on from that checkpoint, on as many nodes as
# there are then. (torchrun ends processes 270 s after SIGTERM: if a step and a checkpoint take longer than that on your
# disks, what is lost is the way since the last `save_every`, never a checkpoint.) Without SLURM, the same on each node by hand:
#
#   torchrun --nnodes=8 --nproc_per_node=8 --rdzv_backend=c10d --rdzv_endpoint=FIRST_NODE:29500 \
#       -m audiogen_cli train-lm --size base
#   accelerate launch --multi_gpu --num_machines 8 --num_processes 64 --machine_rank RANK \
#       --main_process_ip FIRST_NODE --main_process_port 29500 -m audiogen_cli train-lm --size base
#
#SBATCH --job-name=audiogen-lm
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=audiogen-lm-%j.log
set -uo pipefail

port=$((20000 + SLURM_JOB_ID % 20000))
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
gpus=${SLURM_GPUS_ON_NODE:-8}
export OMP_NUM_THREADS=$((${SLURM_CPUS_PER_TASK:-8} / gpus > 0 ? ${SLURM_CPUS_PER_TASK:-8} / gpus : 1))
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=270 # within the 300 s of --signal

srun --kill-on-bad-exit=1 torchrun --nnodes="$SLURM_NNODES" --nproc_per_node="$gpus" --rdzv_id="$SLURM_JOB_ID" \
    --rdzv_backend=c10d --rdzv_endpoint="$first:$port" -m audiogen_cli train-lm "$@" &
training=$!
stopping=
# srun itself would kill its tasks at once; this signals them, and not the script.
trap 'stopping=1; scancel --signal=TERM "$SLURM_JOB_ID"' TERM
wait "$training"
code=$?
if [ -n "$stopping" ]; then
    wait "$training" # the first wait ended with the signal, not with the training
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$code"
