#!/usr/bin/env bash
# The program and its unit tests for ARM64, compiled here and run by qemu; called by ./dev arm64. Needs g++-aarch64-linux-gnu and qemu-user-static.
# Debian's libraries for ARM64 are unpacked into build-arm64/root; of this system nothing is changed.
# usage: tools/arm64.sh [ctest options]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=$PWD/build-arm64
root=$folder/root
packages=(libc6-dev libstdc++-12-dev libgomp1 libdnnl-dev libhwy-dev libsimdjson-dev libboost1.81-dev nlohmann-json3-dev libyaml-cpp-dev libfmt-dev libpcre2-dev libutf8proc-dev
  libcairo2-dev libedit-dev libgtest-dev zlib1g-dev libzstd-dev libcurl4-openssl-dev libssl-dev ocl-icd-opencl-dev)

# What packages of this list need too, with lists of packages and states that are this folder's own.
fetch_libraries() {
  local apt=$folder/apt
  rm -rf "$apt" "$root.part"
  mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$root.part"
  : >"$apt/status"
  local options=(-qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o "Dir::State=$apt" -o "Dir::State::lists=$apt/lists" -o "Dir::State::status=$apt/status"
    -o "Dir::Cache=$apt" -o "Dir::Cache::archives=$apt/archives" -o Debug::NoLocking=1 -o APT::Sandbox::User=)
  apt-get "${options[@]}" update
  apt-get "${options[@]}" install --yes --no-install-recommends --download-only "${packages[@]}" >/dev/null
  local package
  for package in "$apt"/archives/*.deb; do dpkg-deb -x "$package" "$root.part"; done
  # Debian's linker scripts and links name places from the root on.
  [[ -e $root.part/lib || -L $root.part/lib ]] || ln -s usr/lib "$root.part/lib"
  rm -rf "$apt" "$root"
  mv "$root.part" "$root"
}

mkdir -p "$folder"
[[ -d $root ]] || fetch_libraries
cmake -G Ninja -S . -B "$folder" -DCMAKE_TOOLCHAIN_FILE="$PWD/cmake/arm64.cmake" -DARM64_ROOT="$root" -DLORAINE_PYTHON=OFF -DPython3_EXECUTABLE="$(command -v python3)" >/dev/null
cmake --build "$folder" -j "${JOBS:-$(nproc)}"
# Tests that a process dies run the program once more, which only a kernel that knows its format can.
GTEST_FILTER=-*DeathTest* ctest --test-dir "$folder" --output-on-failure -L unit "$@"
