// The race detector, on planted races, which it has to name in the plain order of threads too; and, after all tests of this program, on the
// kernels of the project. Compiled, like those, with -fsanitize=thread.
#include "loraine/kernels/cuda/emulated/races.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "loraine/kernels/cuda/device.h"
#include "tests/support/gpu_check.h"

namespace loraine::cuda::races_test {
namespace {

struct Line {
  float values[64];
};

enum class Fault { none, no_barrier, next_round, warp };

template <Fault kFault>
__global__ void rounds_kernel(float* out) {
  Line& line = shared<Line>();
  const unsigned i = threadIdx.x, n = blockDim.x;
  for (unsigned round = 0; round < 3; ++round) {
    line.values[i] = static_cast<float>(i + round);
    if constexpr (kFault == Fault::none || kFault == Fault::next_round) __syncthreads();
    if constexpr (kFault == Fault::warp) __syncwarp();  // orders the 32 lanes alone
    out[i] = line.values[n - 1 - i];
    if constexpr (kFault != Fault::next_round) __syncthreads();
  }
}

template <bool kApart>
__global__ void blocks_kernel(float* out) {
  out[kApart ? blockIdx.x * blockDim.x + threadIdx.x : threadIdx.x] = static_cast<float>(blockIdx.x);
}

__global__ void copy_over_kernel(float* out, const float* in) {  // the copy is on its way while the other warp still reads
  Line& line = shared<Line>();
  line.values[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = line.values[threadIdx.x];
  if (threadIdx.x < 16) copy_async16(&line.values[threadIdx.x * 4], in + threadIdx.x * 4);
  copy_commit();
  copy_wait<0>();
}

std::vector<std::string> races_of(const std::function<void(GpuStream&)>& start) {
  emulate::take_races();
  GpuStream s;
  start(s);
  s.synchronise();
  return emulate::take_races();
}
void expect_race(const std::string& part, const std::vector<std::string>& races) {
  ASSERT_FALSE(races.empty()) << part;
  EXPECT_NE(races[0].find(part), std::string::npos) << races[0];
}

TEST(Races, PlantedOnesAreNamed) {
  const std::vector<std::string> before = emulate::take_races();  // of the tests before this one
  GpuMemory memory(4096), from(4096);
  float *p = static_cast<float*>(memory.data()), *q = static_cast<float*>(from.data());
  const size_t bytes = sizeof(Line);
  EXPECT_TRUE(races_of([&](GpuStream& s) { launch("right", rounds_kernel<Fault::none>, 2, 64, bytes, s, p + 512); }).size() ==
              1);  // both blocks write out
  EXPECT_TRUE(races_of([&](GpuStream& s) { launch("right", rounds_kernel<Fault::none>, 1, 64, bytes, s, p); }).empty());
  EXPECT_TRUE(races_of([&](GpuStream& s) { launch("right", rounds_kernel<Fault::warp>, 1, 32, bytes, s, p); }).empty());
  EXPECT_TRUE(races_of([&](GpuStream& s) { launch("right", blocks_kernel<true>, 3, 32, 0, s, p); }).empty());
  expect_race("shared memory", races_of([&](GpuStream& s) { launch("planted", rounds_kernel<Fault::no_barrier>, 1, 64, bytes, s, p); }));
  expect_race("shared memory", races_of([&](GpuStream& s) { launch("planted", rounds_kernel<Fault::next_round>, 1, 64, bytes, s, p); }));
  expect_race("shared memory", races_of([&](GpuStream& s) { launch("planted", rounds_kernel<Fault::warp>, 1, 64, bytes, s, p); }));
  expect_race("write after write of byte 0 of device memory",
              races_of([&](GpuStream& s) { launch("planted", blocks_kernel<false>, 3, 32, 0, s, p); }));
  expect_race("shared memory", races_of([&](GpuStream& s) { launch("planted", copy_over_kernel, 1, 64, bytes, s, p, q); }));
  for (const std::string& race : before) ADD_FAILURE() << race;
}

class KernelsHaveNoRaces : public testing::Environment {
  void TearDown() override {
    EXPECT_TRUE(emulate::races_watched()) << "no kernel was compiled with -fsanitize=thread";
    for (const std::string& race : emulate::take_races()) ADD_FAILURE() << race;
  }
};
[[maybe_unused]] testing::Environment* const kAfterAll = testing::AddGlobalTestEnvironment(new KernelsHaveNoRaces);

}  // namespace
}  // namespace loraine::cuda::races_test
