#!/usr/bin/env bash
# prepare.sh FOLDER: makes the samples of docs/guide/clients.md runnable there, with stock gRPC libraries of Python and Go.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
export PATH="$PATH:/usr/local/go/bin"
stamp=$(cat "$here"/*.* "$here"/go/* "$here"/../proto/aof2.proto | sha256sum)
if [ "$(cat "$out/stamp" 2>/dev/null)" = "$stamp" ]; then
  exit 0
fi
rm -rf "$out/python" "$out/go" "$out/bin"
python3 -m venv "$out/python"
"$out/python/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
GOBIN="$out/bin" go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.11
GOBIN="$out/bin" go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
mkdir -p "$out/go"
cp "$here"/go/* "$out/go"
protoc() { "$out/python/bin/python" -m grpc_tools.protoc -I"$here/../proto" "$@" aof2.proto; }
protoc --python_out="$out/python" --grpc_python_out="$out/python"
protoc --plugin="$out/bin/protoc-gen-go" --plugin="$out/bin/protoc-gen-go-grpc" \
  --go_out="$out/go" --go_opt=Maof2.proto=./aof2 --go-grpc_out="$out/go" --go-grpc_opt=Maof2.proto=./aof2
(cd "$out/go" && go build -o client .)
echo "$stamp" > "$out/stamp"
