#!/bin/sh
# Installs loraine from this folder.   usage: ./install.sh [PREFIX]   without PREFIX: /usr/local for root, else ~/.local
set -eu
from=$(cd "$(dirname "$0")" && pwd)
if [ $# -gt 0 ]; then prefix=$1; elif [ "$(id -u)" = 0 ]; then prefix=/usr/local; else prefix=$HOME/.local; fi
mkdir -p "$prefix"
# The old program goes away under the new one only when all is there.
rm -rf "$prefix/lib/loraine.new"
mkdir -p "$prefix/lib" "$prefix/bin" "$prefix/share"
cp -R "$from/lib/loraine" "$prefix/lib/loraine.new"
cp -R "$from/share/." "$prefix/share/"
cp "$from/bin/loraine" "$prefix/bin/loraine.new"
rm -rf "$prefix/lib/loraine"
mv "$prefix/lib/loraine.new" "$prefix/lib/loraine"
mv "$prefix/bin/loraine.new" "$prefix/bin/loraine"
"$prefix/bin/loraine" version
case ":$PATH:" in *":$prefix/bin:"*) ;; *) echo "$prefix/bin is not in PATH: add it, or call $prefix/bin/loraine" ;; esac
