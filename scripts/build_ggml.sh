#!/bin/sh
# Builds ggml's libraries for benchmarks/cpu/ggml.py from the sources of llama-cpp-python, of which ggml alone takes
# a few minutes: build_ggml.sh PYTHON FOLDER [avx2]. PYTHON has scikit-build-core. Without avx2 for this processor.
set -e
python=$1 folder=$2
case "${3:-native}" in
  avx2) isa="-DGGML_NATIVE=OFF -DGGML_SSE42=ON -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON" ;;
  native) isa=-DGGML_NATIVE=ON ;;
  *) echo "build_ggml.sh: $3 is neither avx2 nor native" >&2; exit 2 ;;
esac
cmake=$(dirname "$python")/cmake
[ -x "$cmake" ] || cmake=cmake
mkdir -p "$folder"
"$python" -m pip download --quiet --no-deps --no-build-isolation --no-binary :all: -d "$folder" llama-cpp-python==0.3.36
tar -xzf "$folder"/llama_cpp_python-*.tar.gz -C "$folder" --strip-components=1
# ggml's own folder expects to be the root of a project of its name.
# shellcheck disable=SC2086
"$cmake" -S "$folder/vendor/llama.cpp" -B "$folder/build" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DGGML_OPENMP=OFF \
  -DLLAMA_BUILD_COMMON=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
  -DLLAMA_BUILD_SERVER=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF $isa >"$folder/cmake.log"
"$cmake" --build "$folder/build" --target ggml --parallel "${JOBS:-2}" >>"$folder/cmake.log"
cp -L "$folder"/build/bin/libggml-base.so* "$folder"/build/bin/libggml-cpu.so* "$folder/"
