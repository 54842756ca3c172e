#!/bin/sh
# Makes the Debian package in build/ from a file that `deno task build` made, with the licences beside it in build/. It
# takes nfpm on PATH:
#   go install github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.41.3
#   packaging/deb/build.sh build/sallyport-0.1.0-linux-x64 amd64
set -eu
cd "$(dirname "$0")/../.."
BINARY=$1
ARCH=${2:-amd64}
VERSION=$(sed -n 's/.*VERSION = "\(.*\)".*/\1/p' src/version.ts)
export BINARY ARCH VERSION
mkdir -p build/deb
# Units and completions come from the program itself, run here; those of another machine's are the same.
for command in serve edge master agent; do
  "${SALLYPORT:-$BINARY}" service install "$command" --manager systemd --print > "build/deb/sallyport-$command.service"
  sed -i -e 's|^ExecStart=[^ ]*|ExecStart=/usr/bin/sallyport|' -e '/^DynamicUser=/d' \
    "build/deb/sallyport-$command.service"
done
"${SALLYPORT:-$BINARY}" completion bash > build/deb/sallyport.bash
"${SALLYPORT:-$BINARY}" completion zsh > build/deb/_sallyport
"${SALLYPORT:-$BINARY}" completion fish > build/deb/sallyport.fish
nfpm package --config packaging/deb/nfpm.yaml --packager deb --target build/
