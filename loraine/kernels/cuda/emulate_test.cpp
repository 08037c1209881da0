// The emulator itself: what it computes, and that it names what a GPU would hang on or compute nonsense with.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>
#include <string>

#include "loraine/kernels/cuda/device.h"
#include "tests/support/gpu_check.h"

namespace loraine::cuda::emulate_test {
namespace {

using emulate::Schedule;

// What the launch says when it fails; "" when it does not.
std::string failure_of(const std::function<void(GpuStream&)>& start) {
  GpuStream stream;
  try {
    start(stream);
    stream.synchronise();
  } catch (const emulate::Failure& failure) { return failure.what(); }
  return "";
}
void expect_failure(const std::string& part, const std::function<void(GpuStream&)>& start) {
  const std::string found = failure_of(start);
  EXPECT_NE(found.find(part), std::string::npos) << "expected '" << part << "', found '" << found << "'";
}

__global__ void place_kernel(int* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * threadIdx.y;
  out[block * blockDim.x * blockDim.y + thread] = static_cast<int>(block * 1000 + thread);
}

TEST(Emulator, EveryThreadOfEveryBlockRunsOnce) {
  DeviceArray<int> out(2 * 3 * 4 * 40);
  in_all_orders([&](GpuStream& s) {
    out.clear(s);
    launch("place", place_kernel, dim3(2, 3, 4), dim3(20, 2), 0, s, out.data());
    return out.get(s);
  });
  GpuStream s;
  const std::vector<int> got = out.get(s);
  for (int i = 0; i < static_cast<int>(got.size()); ++i) EXPECT_EQ(got[static_cast<size_t>(i)], i / 40 * 1000 + i % 40);
}

__global__ void sum_kernel(float* out, const float* in) {
  const float sum = block_sum(in[blockIdx.x * blockDim.x + threadIdx.x], shared<WarpRoom>());
  out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}

TEST(Emulator, BlockSumsAreTheSameInEveryOrder) {
  std::vector<float> in(3 * 96);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i % 17) * 0.37f;
  DeviceArray<float> from(in), out(in.size());
  const std::vector<float> got = in_all_orders([&](GpuStream& s) {
    launch("sum", sum_kernel, 3, 96, sizeof(WarpRoom), s, out.data(), from.data());
    return out.get(s);
  });
  for (size_t block = 0; block < 3; ++block) {
    double want = 0;
    for (size_t i = 0; i < 96; ++i) want += in[block * 96 + i];
    for (size_t i = 0; i < 96; ++i) EXPECT_NEAR(got[block * 96 + i], want, 1e-4);
  }
}

// One tile of 16 × 16 times 16 × 8, and what ldmatrix makes of rows: whole numbers, so that every order of sums gives the same.
struct FragmentRoom {
  Bf16 a[16][24], b[8][24], b_columns[16][24];  // rows of 48 bytes
};
template <bool kTransposed>
__global__ void fragment_kernel(float* d, const float* a, const float* b) {
  FragmentRoom& room = shared<FragmentRoom>();
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 256; i += kWarp) from_float(room.a[i / 16][i % 16], a[i]);
  for (int i = lane; i < 128; i += kWarp) from_float(room.b[i / 16][i % 16], b[i]), from_float(room.b_columns[i % 16][i / 16], b[i]);
  __syncwarp();
  uint32_t left[4], right[4];
  load_matrices<false>(left, &room.a[lane % 16][lane / 16 * 8]);
  if constexpr (kTransposed) load_matrices<true>(right, &room.b_columns[lane % 16][0]);
  else load_matrices<false>(right, &room.b[lane % 8][lane / 8 % 2 * 8]);
  float sums[4] = {1, 1, 1, 1};
  mma_m16n8k16(sums, left, right[0], right[1]);
  for (int i = 0; i < 4; ++i) d[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sums[i];
}

TEST(Emulator, FragmentsMultiply) {
  std::vector<float> a(256), b(128);  // b [n, k]
  std::mt19937 random(3);
  for (float& x : a) x = static_cast<float>(static_cast<int>(random() % 17) - 8);
  for (float& x : b) x = static_cast<float>(static_cast<int>(random() % 17) - 8);
  DeviceArray<float> da(a), db(b), dd(128);
  for (bool transposed : {false, true}) {
    const std::vector<float> d = in_all_orders([&](GpuStream& s) {
      launch("fragments", transposed ? fragment_kernel<true> : fragment_kernel<false>, 1, 32, sizeof(FragmentRoom), s, dd.data(), da.data(),
             db.data());
      return dd.get(s);
    });
    for (size_t m = 0; m < 16; ++m)
      for (size_t n = 0; n < 8; ++n) {
        float want = 1;
        for (size_t k = 0; k < 16; ++k) want += a[m * 16 + k] * b[n * 16 + k];
        EXPECT_EQ(d[m * 8 + n], want) << m << " " << n << " " << transposed;
      }
  }
}

__global__ void round_kernel(float* out, const float* in, int n) {
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) {
    Bf16 narrow;
    from_float(narrow, in[i]);
    out[i] = to_float(narrow);
    out[n + i] = round_to(in[i], Bf16{});
    out[2 * n + i] = half_to_float(float_to_half(in[i]));
  }
}

TEST(Emulator, RoundsAsTheProjectDoes) {
  std::vector<float> in = {0, -0.0f, 1, 1.00390625f, 1.01171875f, 3.4e38f, 1e-41f, -2.5f, 65504, 65520, 6e-8f};
  for (int i = 0; i < 200; ++i) in.push_back(std::sin(static_cast<float>(i)) * std::exp(static_cast<float>(i % 40 - 20)));
  DeviceArray<float> from(in), out(3 * in.size());
  GpuStream s;
  launch("round", round_kernel, 1, 64, 0, s, out.data(), from.data(), static_cast<int>(in.size()));
  const std::vector<float> got = out.get(s);
  for (size_t i = 0; i < in.size(); ++i) {
    EXPECT_EQ(got[i], bf16_to_f32(f32_to_bf16(in[i])));
    EXPECT_EQ(got[in.size() + i], got[i]);
    EXPECT_EQ(got[2 * in.size() + i], f16_to_f32(f32_to_f16(in[i])));
  }
}

// --- what must fail, or differ ---

__global__ void branch_barrier_kernel() {
  if (threadIdx.x < 32) __syncthreads();
  else __syncthreads();
}
__global__ void leaving_kernel() {
  if (threadIdx.x == 5) return;
  __syncthreads();
}
__global__ void lane_missing_kernel(float* out) {
  float x = static_cast<float>(threadIdx.x);
  if (threadIdx.x != 7) x = shuffle_xor(x, 1);
  out[threadIdx.x] = x;
}
__global__ void lanes_apart_kernel(float* out) {
  float x = static_cast<float>(threadIdx.x);
  if (threadIdx.x < 16) x = shuffle_xor(x, 1);
  else __syncwarp();
  out[threadIdx.x] = x;
}
struct Big {
  float values[64];
};
__global__ void shared_kernel(float* out) { out[threadIdx.x] = shared<Big>().values[threadIdx.x]; }
__global__ void unaligned_rows_kernel(float* out) {
  Big& room = shared<Big>();
  uint32_t r[4];
  load_matrices<false>(r, reinterpret_cast<const char*>(&room) + threadIdx.x % 2 * 8);
  out[threadIdx.x] = static_cast<float>(r[0]);
}
__global__ void forgotten_copy_kernel(const float* in) {
  copy_async16(&shared<Big>().values[0], in);
  copy_commit();
}

TEST(Emulator, NamesWhatAGpuWouldHangOn) {
  GpuMemory memory(4096);
  float* p = static_cast<float*>(memory.data());
  expect_failure("different barriers", [&](GpuStream& s) { launch("branch", branch_barrier_kernel, 1, 64, 0, s); });
  expect_failure("ended before a barrier", [&](GpuStream& s) { launch("leaving", leaving_kernel, 1, 64, 0, s); });
  expect_failure("nobody can go on; thread 0 waits in shuffle", [&](GpuStream& s) { launch("lane", lane_missing_kernel, 1, 32, 0, s, p); });
  expect_failure("different operations", [&](GpuStream& s) { launch("apart", lanes_apart_kernel, 1, 32, 0, s, p); });
  expect_failure("256 bytes of shared memory, it was launched with 128 (shared",
                 [&](GpuStream& s) { launch("shared", shared_kernel, 1, 32, 128, s, p); });
  expect_failure("not aligned to 16", [&](GpuStream& s) { launch("rows", unaligned_rows_kernel, 1, 32, sizeof(Big), s, p); });
  expect_failure("nobody has waited for", [&](GpuStream& s) { launch("copy", forgotten_copy_kernel, 1, 1, sizeof(Big), s, p); });
  expect_failure("cp.async: an address is not aligned",
                 [&](GpuStream& s) { launch("copy", forgotten_copy_kernel, 1, 1, sizeof(Big), s, p + 1); });
  expect_failure("1025 threads", [&](GpuStream& s) { launch("grid", leaving_kernel, 1, 1025, 0, s); });
  expect_failure("a grid of 1 × 65536 × 1", [&](GpuStream& s) { launch("grid", leaving_kernel, dim3(1, 65536), 32, 0, s); });
  expect_failure("bytes of shared memory; every card", [&](GpuStream& s) { launch("grid", leaving_kernel, 1, 32, 100 * 1024, s); });
}

__global__ void unwritten_kernel(float* out) { out[0] = shared<Big>().values[3]; }

TEST(Emulator, MemoryThatNobodyHasWrittenIsNaN) {
  DeviceArray<float> out(1);
  GpuStream s;
  EXPECT_TRUE(std::isnan(out.get(s)[0]));
  launch("unwritten", unwritten_kernel, 1, 1, sizeof(Big), s, out.data());
  EXPECT_TRUE(std::isnan(out.get(s)[0]));
}

// Planted faults: a missing barrier, and a wait that lets one copy too many be on its way. Some order shows each. (The race detector names
// them without luck: races_test.cpp.)
template <bool kBarrier>
__global__ void reverse_kernel(float* out, const float* in) {
  Big& room = shared<Big>();
  room.values[threadIdx.x] = in[threadIdx.x];
  if constexpr (kBarrier) __syncthreads();
  out[threadIdx.x] = room.values[63 - threadIdx.x];
}
template <int kPending>
__global__ void copied_kernel(float* out, const float* in) {
  Big& room = shared<Big>();
  copy_async16(&room.values[threadIdx.x * 4], in + threadIdx.x * 4);
  copy_commit();
  copy_wait<kPending>();
  for (int i = 0; i < 4; ++i) out[threadIdx.x * 4 + static_cast<unsigned>(i)] = room.values[threadIdx.x * 4 + static_cast<unsigned>(i)];
  copy_wait<0>();
}

TEST(Emulator, OrdersShowWhatIsNotOrdered) {
  std::vector<float> in(64);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i);
  DeviceArray<float> from(in), out(64);
  auto results = [&](auto kernel, unsigned threads) {
    return all_orders([&](GpuStream& s) {
      out.clear(s);
      launch("planted", kernel, 1, threads, sizeof(Big), s, out.data(), from.data());
      return out.get(s);
    });
  };
  EXPECT_TRUE(all_equal(results(reverse_kernel<true>, 64)));
  EXPECT_FALSE(all_equal(results(reverse_kernel<false>, 64)));
  EXPECT_TRUE(all_equal(results(copied_kernel<0>, 16)));
  EXPECT_FALSE(all_equal(results(copied_kernel<1>, 16)));
}

}  // namespace
}  // namespace loraine::cuda::emulate_test
