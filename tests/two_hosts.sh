#!/usr/bin/env bash
# Two hosts train one model; one dies in the middle; the run goes on from the checkpoint.
#
#   tests/two_hosts.sh <python> <project> <folder>
#
# <project> has params.yaml and data/ of a small job (tests/test_two_hosts.py makes it). The hosts are two network
# namespaces joined by a cable of their own: no other network is seen or used. They share the disk. Needs root.
# Writes <folder>/{calm,relaunched,shrunk}/checkpoints/<key>.model:
#   calm        nothing happens
#   relaunched  host B is killed and started again: both go on, the model is that of calm bit for bit
#   shrunk      host B is killed and stays away: A goes on alone (--nnodes=1:2), the same model up to rounding
set -euo pipefail
python=$(realpath -s "$1") project=$(realpath "$2") folder=$(realpath "$3")
root=$(realpath "$(dirname "$0")/..")
tag=$$  # namespaces of a second run beside this one have other names
a=rob-a-$tag b=rob-b-$tag
declare -A address=([$a]=10.77.0.1 [$b]=10.77.0.2) cable=([$a]=va$tag [$b]=vb$tag)
limit=${ROBACC_TWO_HOSTS_LIMIT:-150}  # seconds a run

clean() {
    for host in $a $b; do
        # Whatever runs in the namespace was started here.
        for pid in $(ip netns pids $host 2>/dev/null); do kill -9 "$pid" 2>/dev/null || true; done
        ip netns del $host 2>/dev/null || true
    done
}
trap clean EXIT
trap 'exit 130' INT TERM

for host in $a $b; do ip netns add $host; done
ip link add ${cable[$a]} netns $a type veth peer name ${cable[$b]} netns $b
for host in $a $b; do
    ip -n $host addr add ${address[$host]}/24 dev ${cable[$host]}
    ip -n $host link set lo up
    ip -n $host link set ${cable[$host]} up
done

start() {  # host, run, nodes: start torchrun on the host, in the background; its process id in $started
    local log=$folder/$2/${1%-*}.log
    cd "$folder/$2"
    # Without TORCH_DISABLE_SHARE_RDZV_TCP_STORE torchrun 2.14 tells a host that comes anew where the first process
    # listens only if that was itself new: both wait for a minute and give up.
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 PYTHONPATH=$root OMP_NUM_THREADS=1 GLOO_SOCKET_IFNAME=${cable[$1]} ip netns exec $1 setsid timeout -k 5 $limit \
        "$python" -m torch.distributed.run --nnodes="$3" --nproc-per-node=1 --max-restarts=5 --local-addr=${address[$1]} \
        --rdzv-backend=c10d --rdzv-endpoint=${address[$a]}:29400 --rdzv-id="$2" \
        --rdzv-conf=last_call_timeout=3,keep_alive_interval=1,keep_alive_max_attempt=3,is_host=$([ $1 = $a ] && echo 1 || echo 0) \
        -m stages.train_distributed --dataset mnist --ball l2-0.5 --seed 0 >>"$log" 2>&1 &
    started=$!
    cd "$root"
}

host_dies() {  # host: agent and worker end without a word to anyone
    for pid in $(ip netns pids "$1"); do kill -9 "$pid" 2>/dev/null || true; done
}

until_checkpoint() {  # run, agent: wait until the run is under way
    until compgen -G "$folder/$1/checkpoints/*.running" >/dev/null; do
        kill -0 "$2" 2>/dev/null || { echo "$1: ended before its first checkpoint"; tail -n 20 "$folder/$1"/*.log; exit 1; }
        sleep 0.05
    done
}

finish() {  # run, process ids: wait for them, which must succeed
    local run=$1 && shift
    for pid in "$@"; do
        wait "$pid" || { echo "$run: failed"; tail -n 40 "$folder/$run"/*.log; exit 1; }
    done
    compgen -G "$folder/$run/checkpoints/*.model" >/dev/null || { echo "$run: no model"; exit 1; }
    echo "$run: $(grep -h 'images, seed' "$folder/$run"/*.log | tail -n 1)"
}

for run in calm relaunched shrunk; do
    mkdir -p "$folder/$run"
    cp -r "$project/params.yaml" "$project/data" "$folder/$run"
done

start $a calm 2 && on_a=$started
start $b calm 2 && on_b=$started
finish calm $on_a $on_b

start $a relaunched 2 && on_a=$started
start $b relaunched 2 && on_b=$started
until_checkpoint relaunched $on_a
host_dies $b
wait $on_b && { echo "host B was to die"; exit 1; }
echo "relaunched: host B killed after the first checkpoint"
start $b relaunched 2 && on_b=$started
finish relaunched $on_a $on_b

start $a shrunk 1:2 && on_a=$started
start $b shrunk 1:2 && on_b=$started
until_checkpoint shrunk $on_a
host_dies $b
wait $on_b && { echo "host B was to die"; exit 1; }
echo "shrunk: host B killed after the first checkpoint"
finish shrunk $on_a
