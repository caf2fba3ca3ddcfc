#!/usr/bin/env bash
# The other form of the files, for distributions: linked to the system's libraries. Configures it,
# builds what a VMM loads and its launcher, and looks at what they need.
#   check_system_libraries.sh SOURCE FOLDER
set -euo pipefail
source=$1 build=$2
cmake -S "$source" -B "$build" -G Ninja -D SVM_PMU_STATIC=OFF -D SVM_PMU_TESTS=OFF \
  -D CMAKE_BUILD_TYPE=Debug -D CMAKE_CXX_FLAGS_DEBUG=-O0 >"$build.log" 2>&1 ||
  { cat "$build.log"; exit 1; }
cmake --build "$build" --target svm_pmu vmm_preload vmm-run >"$build.log" 2>&1 ||
  { tail -n 30 "$build.log"; exit 1; }
needs() { readelf -dW "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'; }
for library in libboost_program_options.so libstdc++.so.6 libgcc_s.so.1 libc.so.6; do
  needs "$build/plugin/svm_pmu.so" | grep -qF "$library" ||
    { echo "svm_pmu.so does not need $library:" && needs "$build/plugin/svm_pmu.so"; exit 1; }
done
needs "$build/host_preload/libvmm_preload.so" | grep -qF libstdc++.so.6 ||
  { echo "libvmm_preload.so does not need libstdc++.so.6"; exit 1; }
"$build/host_preload/vmm-run" --plugin "$build/plugin/svm_pmu.so" --check -- sh
