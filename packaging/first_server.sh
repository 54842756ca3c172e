#!/bin/sh
# Walks docs/first-server.md through, as root on Linux, in a network of its own: two addresses stand for the two
# machines, /etc/hosts for DNS, and Pebble for the authority. It takes the folder with Pebble's programs, which the
# tests build, and the words that start Sallyport:
#   packaging/first_server.sh .cache/pebble-v2.10.3 bun mod.ts
#   packaging/first_server.sh .cache/pebble-v2.10.3 deno run -A mod.ts
# With STARTED, in seconds since the epoch, the time that it reports begins there: before the clone, for example.
set -eu
cd "$(dirname "$0")/.."
if [ "${INSIDE:-}" = "" ]; then
  INSIDE=$(mktemp -d)
  export INSIDE
  trap 'rm -rf "$INSIDE"' EXIT
  unshare --mount --mount-proc --net --pid --fork --kill-child timeout 300 sh "$0" "$@"
  exit 0
fi
pebble=$(realpath "$1")
shift
# The programs run in folders of their own, so that the file is named from the root.
sallyport=$(echo "$*" | sed "s|mod.ts|$PWD/mod.ts|")
cd "$INSIDE"
say() { echo "first server: $*"; }
wait_for() {
  tries=0
  until grep -q "$1" "$2" 2> /dev/null; do
    tries=$((tries + 1))
    [ "$tries" -lt 300 ] || { say "no '$1' in $2:"; cat "$2"; exit 1; }
    sleep 0.2
  done
}
link() { sed -n "s/.*--join '\([^']*\)'.*/\1/p"; }

ip link set lo up
printf '127.0.0.1 localhost\n127.0.0.2 edge.example.org master.example.org home.example.org\n' > hosts
mount --bind hosts /etc/hosts
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem -days 2 \
  -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 2> /dev/null
cat > pebble.json << JSON
{ "pebble": { "listenAddress": "127.0.0.1:14000", "managementListenAddress": "127.0.0.1:15000",
  "certificate": "$INSIDE/cert.pem", "privateKey": "$INSIDE/key.pem", "httpPort": 5002, "tlsPort": 443,
  "ocspResponderURL": "", "profiles": { "default": { "description": "d", "validityPeriod": 604800 } },
  "retryAfter": { "authz": 1, "order": 1 } } }
JSON
"$pebble/pebble-challtestsrv" -defaultIPv4 127.0.0.2 -defaultIPv6 "" -dnsserver 127.0.0.1:8053 \
  -management 127.0.0.1:8055 -http01 "" -https01 "" -tlsalpn01 "" -doh "" > dns.log 2>&1 &
PEBBLE_VA_NOSLEEP=1 "$pebble/pebble" -config pebble.json -dnsserver 127.0.0.1:8053 > pebble.log 2>&1 &
acme="--acme-email you@example.org --acme-directory https://127.0.0.1:14000/dir --acme-ca $INSIDE/cert.pem"
mkdir public public/agent home
start=${STARTED:-$(date +%s)}

cd public
say "2. the public machine"
$sallyport serve --listen 127.0.0.2:443 --agent-listen 127.0.0.2:8443 --public-address edge.example.org:8443 \
  --forwarded-from 127.0.0.1 > serve.log 2>&1 &
wait_for credential-file serve.log
say "3. the master's own name"
join=$($sallyport agents add master --hostname master.example.org --master http://127.0.0.1:8080 \
  --credential-file data/admin.key | link)
cd agent
$sallyport agent --join "$join" --to http://127.0.0.1:8080 $acme > agent.log 2>&1 &
cd ..
wait_for "got a certificate" agent/agent.log
curl -s --cacert ../cert.pem https://127.0.0.1:15000/roots/0 > ../root.pem
curl -sf --cacert ../root.pem https://master.example.org/healthz | grep -q ok || { say "no master"; exit 1; }
# The machines trust Pebble's root as they would a public one.
export NODE_EXTRA_CA_CERTS="$INSIDE/root.pem" DENO_CERT="$INSIDE/root.pem"
say "4. the machine at home"
join=$($sallyport agents add home --hostname home.example.org --master https://master.example.org \
  --credential-file data/admin.key | link)
cd ../home
echo "a page from home" > index.html
python3 -m http.server 8123 --bind 127.0.0.1 > site.log 2>&1 &
$sallyport agent --join "$join" --to http://127.0.0.1:8123 $acme > agent.log 2>&1 &
wait_for "got a certificate" agent.log
curl -sf --cacert ../root.pem https://home.example.org/ | grep -q "a page from home" || { say "no page"; exit 1; }
say "the page is there after $(($(date +%s) - start)) s, its certificate verified"
say "5. doctor"
$sallyport doctor home.example.org
