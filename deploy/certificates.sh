#!/bin/sh
# Makes the certificates of one cluster, by an authority (CA) that signs for it and nothing else:
#
#   deploy/certificates.sh DIR [DAYS]
#
# DIR/ca.pem        the authority's certificate; every machine needs it
# DIR/ca.key        its key: whoever has it can join. Move it away; new certificates need it
# DIR/cluster.*     for the scheduler and the workers
# DIR/client.*      for who runs mining-scan; it cannot pose as a scheduler or a worker
#
# DAYS is how long they last (default 90). It needs openssl alone. Files that are there are not replaced; with the CA
# there, what is missing is made: delete client.* and call it again for a new one.
# Host names are not in them, since Dask does not check any.
set -eu

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    echo "usage: $0 DIR [DAYS]" >&2
    exit 2
fi
dir=$1
days=${2:-90}
umask 077
mkdir -p "$dir"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

new_key() {
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"
}

if [ ! -e "$dir/ca.pem" ]; then
    cat > "$scratch/ca.cnf" <<'CNF'
[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = mining-scan cluster authority
[extensions]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
CNF
    new_key "$dir/ca.key"
    openssl req -x509 -new -sha256 -config "$scratch/ca.cnf" -days "$days" \
        -key "$dir/ca.key" -out "$dir/ca.pem"
fi

# pair NAME USES: a key and a certificate that is good for USES alone
pair() {
    if [ -e "$dir/$1.pem" ]; then
        echo "$dir/$1.pem: is there, left as it is"
        return
    fi
    if [ ! -e "$dir/ca.key" ]; then
        echo "$dir/ca.key: not there, so $1.pem cannot be signed; put it back" >&2
        exit 1
    fi
    cat > "$scratch/$1.ext" <<CNF
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = $2
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:$1.mining-scan.internal
CNF
    new_key "$dir/$1.key"
    openssl req -new -sha256 -subj "/CN=$1" -key "$dir/$1.key" -out "$scratch/$1.csr"
    openssl x509 -req -sha256 -in "$scratch/$1.csr" -days "$days" -extfile "$scratch/$1.ext" \
        -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -set_serial "0x$(openssl rand -hex 16)" \
        -out "$dir/$1.pem" 2> "$scratch/told" || { cat "$scratch/told" >&2; exit 1; }
}

pair cluster "serverAuth, clientAuth"
pair client "clientAuth"
chmod 644 "$dir"/*.pem
echo "$dir: ca.pem, cluster.pem and client.pem with their keys, good for $days days at most"
echo "move $dir/ca.key to where no machine of the cluster can read it"
