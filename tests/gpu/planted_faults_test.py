#!/usr/bin/env python3
"""Plants faults in GPU kernels and in the host's part, one at a time, and sees that the tests of the emulated GPU fail: that they test. A part of them by default,
LORAINE_PLANTED_FAULTS=all for all. Argument: the file that cmake/gpu.cmake writes, with the compiler, the objects and the libraries."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = json.loads(pathlib.Path(sys.argv.pop()).read_text())
DEVICE = "loraine/kernels/cuda/device.h"
LOSS, ADAMW = "loraine/kernels/training/cross_entropy_cuda.cu", "loraine/kernels/training/adamw_cuda.cu"
TILES, ROWS = "loraine/kernels/attention/attention_tiles_cuda.cu", "loraine/kernels/attention/attention_cuda.cu"
THIN, CODES = "loraine/kernels/products/thin_product_cuda.cu", "loraine/kernels/products/dequantise_cuda.cu"
NORM, MOVES = "loraine/kernels/norms/rms_norm_cuda.cu", "loraine/kernels/rows/rows_cuda.cu"
SCALED = "loraine/kernels/rows/scaled_cuda.cu"

# What is wrong, where, the text that stands there, what takes its place, the tests; a header is compiled with the kernel file named last.
FAULTS = [
    ("one room for two reductions", LOSS, "block_sum(all, room.all)", "block_sum(all, room.sum)", "TrainingCuda.Cross*"),
    ("launched with too little shared memory", ADAMW, "kUpdateThreads, sizeof(RoomOf<double>)", "kUpdateThreads, sizeof(WarpRoom)", "TrainingCuda.Grad*"),
    ("two blocks update one element", ADAMW, "i < item.n;\n       i += static_cast<int64_t>(gridDim.x) * kUpdateThreads", "i < item.n;\n       i += kUpdateThreads",
     "TrainingCuda.Grad*"),
    ("no barrier before the tile is used", TILES, "    __syncthreads();  // this tile", "    // this tile", "AttentionCuda.InTiles"),
    ("a row's sums are not exchanged", TILES, "    all += shuffle_xor(all, 2);\n", "", "AttentionCuda.InTiles"),
    ("no barrier after the tables are filled", CODES, "  __syncthreads();\n  const int64_t begin", "  const int64_t begin", "ProductsCuda.Dequantised*"),
    ("a reduction without its barrier", DEVICE, "/ kWarp] = x;\n  __syncthreads();", "/ kWarp] = x;", "TrainingCuda.Grad*", ADAMW),
]
MORE = [
    ("a shuffle in a branch", TILES, "      top = fmaxf(top, shuffle_xor(top, 1));", "      if (lane < 30) top = fmaxf(top, shuffle_xor(top, 1));",
     "AttentionCuda.InTiles"),
    ("the next tile into the one in use", TILES, "fetch_tile<D>(tiles.k[stage ^ 1], keys", "fetch_tile<D>(tiles.k[stage], keys", "AttentionCuda.InTiles"),
    ("waits for one copy too few", THIN, "copy_wait<kStages - 2>()", "copy_wait<kStages - 1>()", "ProductsCuda.OnThe*"),
    ("no barrier before a step is used", THIN, "    __syncthreads();  // this step", "    // this step", "ProductsCuda.OnThe*"),
    ("the tile is overwritten while it is used", THIN, "    __syncthreads();\n  }\n  UNROLL", "  }\n  UNROLL", "ProductsCuda.OfAn*"),
    ("pieces of K all in one place", THIN, "partial[(blockIdx.y * shape.M + m)", "partial[(m)", "ProductsCuda.OfAn*"),
    ("lanes read weights before they are there", ROWS, "    room.weight[warp][lane] = p;\n    __syncwarp();", "    room.weight[warp][lane] = p;",
     "AttentionCuda.RowByRow"),
    ("no barrier before the warps are added up", ROWS, "  put_sums(room, sums, shape.V, warp, lane);\n  __syncthreads();",
     "  put_sums(room, sums, shape.V, warp, lane);", "AttentionCuda.RowByRow"),
    ("a thread leaves before the reduction", NORM, "  float sum = 0;\n  for_columns", "  float sum = 0;\n  if (threadIdx.x == 5) return;\n  for_columns",
     "NormsCuda.RmsNorm"),
    ("a barrier in a branch", NORM, "  if (threadIdx.x == 0) rstd[blockIdx.x * row.rstd_stride] = r;",
     "  if (threadIdx.x < 32) __syncthreads();\n  if (threadIdx.x == 0) rstd[blockIdx.x * row.rstd_stride] = r;", "NormsCuda.RmsNorm"),
    ("a vector past the row", MOVES, "const To* to, int64_t C) {\n  const int64_t c = first_column();\n  if (c >= C) return;",
     "const To* to, int64_t C) {\n  const int64_t c = first_column();\n  if (c >= C + 8) return;", "RowsCuda.*"),
    ("a store past the last column", SCALED, "if (c >= C) return;\n  float v[8];\n  load_eight<kWhole>(v, x.data + blockIdx.x * x.stride, c, C);\n  UNROLL\n  for (int i = 0; i < 8; ++i) v[i] *= factor;\n  store_eight<kWhole>(y.data + blockIdx.x * y.stride, c, C, v);",
     "float v[8];\n  load_eight<kWhole>(v, x.data + blockIdx.x * x.stride, c, C);\n  UNROLL\n  for (int i = 0; i < 8; ++i) v[i] *= factor;\n  store_eight<kWhole>(y.data + blockIdx.x * y.stride, c, C + 8, v);",
     "ScaledCuda.*"),
    ("a cap's gradient of the wrong power", SCALED, "1.0f - t * t", "1.0f - t", "ScaledCuda.*"),
]


# Of the host's part, by the tests of the decoder on the GPU. In them two micro-batches make an update, and there are three.
BATCH, TRAINING, ADAPTER = "loraine/model/gpu/gpu_batch.cpp", "loraine/train/gpu/gpu_training.cpp", "loraine/model/gpu/gpu_adapter.cpp"
BASE, PLAN = "loraine/model/gpu/gpu_model.cpp", "loraine/model/gpu/gpu_plan.cpp"
UPDATES = "GpuDecoder.UpdatesEqualTheCpu"
HOST_FAULTS = [
    ("a batch's pinned memory is filled while its copy waits", BATCH, "stagings_[next_++].data()", "stagings_[0].data()", UPDATES),
    ("losses and norms are read before they are there", TRAINING, "  stream_.synchronise();\n  if (!stream_.dry()) std::memcpy(norms",
     "  if (!stream_.dry()) std::memcpy(norms", UPDATES),
]
MORE_HOST_FAULTS = [
    ("the host reads device memory", TRAINING, "std::memcpy(norms, staging_.data(), sizeof norms)", "std::memcpy(norms, norm_, sizeof norms)", UPDATES),
    ("scalars of the first update stay", TRAINING, "  stream_.copy(scalars_, staging_.data(), bytes);", "  if (step == 1) stream_.copy(scalars_, staging_.data(), bytes);",
     UPDATES),
    ("A and B beside the base stay as they were", TRAINING, "item.copy = copy->at.data, ", "", UPDATES),
    ("norms of DoRA stay as they were", TRAINING, "  adapter_.values_changed();\n", "", UPDATES),
    ("one rate for A and B", TRAINING, "static_cast<int32_t>(rate - rate_factors_.begin())", "0", UPDATES),
    ("gradients of the last update stay", ADAPTER, "void GpuAdapter::zero_gradients() { stream_.fill(data_[kGradients], 0, static_cast<size_t>(elements_) * sizeof(float)); }",
     "void GpuAdapter::zero_gradients() {}", UPDATES),
    ("pinned memory is let go of before its copy", ADAPTER, "  stream_.copy(data_[kind], all, staging.bytes());\n  stream_.synchronise();",
     "  stream_.copy(data_[kind], all, staging.bytes());", UPDATES),
    ("the base's pinned memory takes the next rows too early", BASE, "      stream.synchronise();  // before the staging memory takes the next rows\n", "", UPDATES),
    ("no room for the adapter's columns", PLAN, "take(type, rows, C + in_ranks).col_range(0, C)", "take(type, rows, C)", UPDATES),
]


def fails(program, tests, name):
    run = subprocess.run([program, f"--gtest_filter={tests}"], capture_output=True, text=True, timeout=300)
    assert "0 tests from 0" not in run.stdout, f"{name}: no test is called {tests}"
    return run.returncode != 0


# The changed file is compiled with those that the build compiles beside it, and stands before the libraries, whose own of the same names is not taken.
def noticed_on_the_host(name, file, old, new, tests):
    text = (ROOT / file).read_text()
    assert text.count(old) == 1, f"{name}: the text it changes is not in {file} any more"
    folder_of_build = pathlib.Path(BUILD["folder"])
    link = subprocess.run(["ninja", "-t", "commands", "gpu_decoder_tests"], cwd=folder_of_build, check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1]
    together = [u.read_text() for u in folder_of_build.glob("CMakeFiles/*/Unity/*.cxx") if str(ROOT / file) in u.read_text()]
    with tempfile.TemporaryDirectory() as folder:
        changed, source, compiled, program = f"{folder}/changed.cpp", f"{folder}/source.cpp", f"{folder}/source.o", f"{folder}/tests"
        pathlib.Path(changed).write_text(text.replace(old, new))
        pathlib.Path(source).write_text(together[0].replace(str(ROOT / file), changed) if together else f'#include "{changed}"\n')
        subprocess.run([BUILD["compiler"], "-std=c++20", "-O0", "-w", f"-I{ROOT}", "-c", source, "-o", compiled], check=True)
        assert " -o gpu_decoder_tests " in link, link
        link = link.replace(" -o gpu_decoder_tests ", f" {compiled} -Wl,--allow-multiple-definition -o {program} ")
        subprocess.run(link, shell=True, cwd=folder_of_build, check=True)
        return fails(program, tests, name)


def noticed(name, file, old, new, tests, kernel=None):
    text = (ROOT / file).read_text()
    assert text.count(old) >= 1, f"{name}: the text it changes is not in {file} any more"
    with tempfile.TemporaryDirectory() as folder:
        changed = pathlib.Path(folder) / file
        changed.parent.mkdir(parents=True)
        changed.write_text(text.replace(old, new))
        source = ROOT / kernel if kernel else changed
        compiled, program = f"{folder}/kernel.o", f"{folder}/tests"
        include = [f"-I{folder}", f"-I{ROOT}", f"-I{ROOT}/loraine/kernels/cuda/emulated"]
        subprocess.run([BUILD["compiler"], "-std=c++20", "-O0", "-w", "-ffp-contract=off", *include, "-x", "c++", "-c", source, "-o", compiled], check=True)
        others = [o for o in BUILD["kernels"] if not o.endswith("/" + (kernel or file).rsplit("/", 1)[1] + ".o")]
        subprocess.run([BUILD["compiler"], compiled, *others, *BUILD["objects"], *BUILD["libraries"], "-o", program], check=True)
        return fails(program, tests, name)


class PlantedFaults(unittest.TestCase):
    def test_each_is_noticed(self):
        for fault in FAULTS + (MORE if os.environ.get("LORAINE_PLANTED_FAULTS") == "all" else []):
            with self.subTest(fault[0]):
                self.assertTrue(noticed(*fault), f"{fault[1]}: {fault[0]}: all tests pass")

    @unittest.skipIf(BUILD["cuda"] == "ON", "the host's part is tested on the emulated GPU, which a build with LORAINE_CUDA has not")
    def test_each_of_the_host_is_noticed(self):
        for fault in HOST_FAULTS + (MORE_HOST_FAULTS if os.environ.get("LORAINE_PLANTED_FAULTS") == "all" else []):
            with self.subTest(fault[0]):
                self.assertTrue(noticed_on_the_host(*fault), f"{fault[1]}: {fault[0]}: all tests pass")

    def test_their_places_are_there(self):
        for _, file, old, *_ in FAULTS + MORE + HOST_FAULTS + MORE_HOST_FAULTS:
            self.assertIn(old, (ROOT / file).read_text())


if __name__ == "__main__":
    unittest.main()
