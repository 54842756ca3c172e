#!/bin/sh
# Runs the single file for Windows under Wine: demo, then edge, master and agent apart, with a page through either tunnel.
#   packaging/windows/check.sh build/sallyport-0.1.0-windows-x64.exe
# or built modules on Deno for Windows (npm's @deno/win32-x64), which takes Wine 10; words after the file come first:
#   packaging/windows/check.sh deno.exe run --quiet --no-config --unstable-net --allow-all "$PWD/build/modules/main.js"
# It takes wine64, curl and python3. Two things of Windows are missing in Wine 8: Bun opens no file there by a relative
# path, and a DLL with one function, which gcc-mingw-w64-x86-64 makes here; Wine 10 has it.
set -eu
file=$(realpath "$1")
shift
words=$*
wine=$(command -v wine64 || command -v wine || echo /usr/lib/wine/wine64)
work=$(mktemp -d)
export WINEPREFIX="$work/wine" WINEDEBUG=-all
pids=
trap 'kill $pids 2> /dev/null || :; "$(dirname "$wine")/wineserver" -k 2> /dev/null || wineserver -k || :; rm -rf "$work"' EXIT
cd "$work"
cp "$file" sallyport.exe
cat > random.c <<'C'
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE bytes, SIZE_T length) { return SystemFunction036(bytes, (ULONG)length); }
C
! command -v x86_64-w64-mingw32-gcc > /dev/null || x86_64-w64-mingw32-gcc -shared -o bcryptprimitives.dll random.c -ladvapi32
sallyport() { "$wine" ./sallyport.exe $words "$@"; }
# Waits until a log has a line, and prints what matches in it.
seen() {
  for _ in $(seq 600); do
    if grep -Eos "$2" "$1" | head -n 1 | grep . ; then return; fi
    sleep 0.2
  done
  echo "packaging/windows/check.sh: no '$2' in:" >&2
  cat "$1" >&2
  exit 1
}
page() { curl --silent --insecure --max-time 20 "https://demo.localhost:$1/$2" | grep -q "$3"; }
ports="--listen 127.0.0.1:0 --master-listen 127.0.0.1:0"
# Where the folder can't be made, demo takes the system's temporary one, by its whole path.
touch data
sallyport --version
sallyport demo $ports > demo.log 2>&1 & pids="$pids $!"
seen demo.log 'curl --cacert .*' > /dev/null
page "$(seen demo.log 'edge +127.0.0.1:[0-9]+' | grep -o '[0-9]*$')" "" "Hello from behind the tunnel"
echo "ok: demo, and its page through the tunnel"
windows_work="Z:$(echo "$work" | tr / '\\')"
sallyport serve $ports --data-dir "$windows_work\\serve" > serve.log 2>&1 & pids="$pids $!"
port=$(seen serve.log 'visitors and agents +127.0.0.1:[0-9]+' | grep -o '[0-9]*$')
master=$(seen serve.log 'http://127.0.0.1:[0-9]+')
sallyport agents add demo --hostname demo.localhost --master "$master" \
  --credential-file "$windows_work\\serve\\admin.key" > add.log 2>&1
mkdir site && echo "a page behind Windows" > site/index.html
python3 -u -m http.server --directory site --bind 127.0.0.1 0 > site.log 2>&1 & pids="$pids $!"
site=$(seen site.log 'http://127.0.0.1:[0-9]+')
sallyport agent --join "$(seen add.log "$master/#[A-Za-z0-9_-]+")" --to "$site" --data-dir "$windows_work\\agent" \
  > agent.log 2>&1 & pids="$pids $!"
seen agent.log 'connected to the edge' > /dev/null
page "$port" index.html "a page behind Windows"
echo "ok: serve, agents add, agent --join, and a page through the tunnel"
sallyport agent status --data-dir "$windows_work\\agent" | grep -q demo.localhost
echo "ok: agent status, over a named pipe"
