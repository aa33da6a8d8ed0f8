# Process 1 of a host: one set of pid, mount, net, uts and ipc namespaces. When it ends, the kernel ends every process
# of the host, and with the last of them go its mounts and its network.
#
#   sh -c "$script" host NAME STATE DISK
#
# STATE is the cluster's folder, DISK the host's folder in it: what is on it outlives the host.
set -e
name=$1 state=$2 disk=$3
hostname "$name"

# Kubelet and containerd want mounts to spread within the host.
mount --make-rshared /
mount -t tmpfs -o mode=755,size=512m tmpfs /run
mkdir -p /run/lock /run/netns /run/state
mount --bind "$state" /run/state

# What servers make below /var, /etc and /opt is the host's own and not the machine's.
for place in var etc opt; do
    mkdir -p /run/own/$place/upper /run/own/$place/work
    mount -t overlay overlay -o "lowerdir=/$place,upperdir=/run/own/$place/upper,workdir=/run/own/$place/work" /$place
done
mkdir -p "$state"
mount --bind /run/state "$state"
# Nobody outside is looked up. Who asks for a name hears at once that there is none, and does not wait for a server that
# can't be reached from here.
rm -f /etc/resolv.conf
echo nameserver 127.0.0.1 > /etc/resolv.conf

# Reservations of pods' addresses: the pods of an earlier life are gone, and nobody gave theirs back.
rm -rf "$disk/var/lib/cni"
for folder in /var/lib/kubelet /var/lib/containerd /var/lib/etcd /var/lib/cni /var/log/pods /var/log/containers; do
    mkdir -p "$folder" "$disk$folder"
    mount --bind "$disk$folder" "$folder"
done

ip link set lo up
echo 1 > /proc/sys/net/ipv4/ip_forward
# Packets between two pods of a node go through the rules of Services.
if [ -e /proc/sys/net/bridge/bridge-nf-call-iptables ]; then echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables; fi

# Kubelet writes settings of the whole machine: it gets files of its own in their place.
mkdir -p /run/settings
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    file=/run/settings/$(echo "${setting%%=*}" | tr / _)
    echo "${setting##*=}" > "$file"
    mount --bind "$file" "/proc/sys/${setting%%=*}"
done

# The last step says that all were done, in this very mount namespace.
readlink /proc/self/ns/mnt > "$disk/ready.fresh"
mv "$disk/ready.fresh" "$disk/ready"
# Waiting collects the children that daemons leave to process 1.
while :; do
    sleep 3600 &
    wait
done
