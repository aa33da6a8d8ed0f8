# Postgres on a host of its own: makes its data folder when there is none, and becomes the server.
#
#   sh -c "$script" postgres PROGRAMS DISK USER PASSWORD_FILE PORT
#
# The server refuses to run as root, and its own user may not walk through the folders above the cluster's: it finds the
# disk at another place.
set -e
programs=$1 disk=$2 user=$3 password=$4 port=$5
own=/run/postgres
mkdir -p $own/disk
chmod 711 $own "$disk"
mountpoint -q $own/disk || mount --bind "$disk" $own/disk
install -d -o postgres -g postgres -m 700 $own/socket

# Whole or not at all: an interrupted one is made anew.
if [ ! -e $own/disk/data ]; then
    rm -rf $own/disk/data.fresh
    install -d -o postgres -g postgres -m 700 $own/disk/data.fresh
    install -o postgres -g postgres -m 600 "$password" $own/socket/password
    setpriv --reuid=postgres --regid=postgres --clear-groups "$programs/initdb" --pgdata=$own/disk/data.fresh \
        --username="$user" --pwfile=$own/socket/password --auth-local=trust --auth-host=scram-sha-256 \
        --encoding=UTF8 --locale=C --no-sync
    rm $own/socket/password
    printf 'host all all all scram-sha-256\nhost replication all all scram-sha-256\n' >> $own/disk/data.fresh/pg_hba.conf
    mv $own/disk/data.fresh $own/disk/data
fi

# Shared memory in files of its own: /dev/shm is the machine's. It never waits for the disk: a lab's cluster does not
# outlive its machine.
exec setpriv --reuid=postgres --regid=postgres --clear-groups "$programs/postgres" -D $own/disk/data -p "$port" \
    -c listen_addresses='*' -c unix_socket_directories=$own/socket -c dynamic_shared_memory_type=mmap \
    -c wal_level=logical -c max_replication_slots=10 -c max_wal_senders=10 -c fsync=off -c shared_buffers=32MB
