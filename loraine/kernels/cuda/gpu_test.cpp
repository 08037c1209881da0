// The host's part on the emulated GPU: a step with two streams, a staging buffer and a graph, right, and wrong in ways that a test has to
// notice.
#include "loraine/core/gpu.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "loraine/core/error.h"
#include "loraine/core/gpu_emulated.h"
#include "loraine/kernels/cuda/device.h"

namespace loraine::cuda::gpu_test {
namespace {

constexpr int kNumbers = 300, kLayers = 4;

__global__ void multiply_kernel(float* x, const float* w, const float* add, float add_now, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) x[i] = x[i] * w[i] + (add ? *add : add_now);
}

struct StepFaults {
  bool waits_for_copy = true, waits_for_use = true, waits_for_staging = true, scalar_on_device = true, graph = false, touches = false,
       beyond = false;
};

float* floats(const GpuMemory& memory) { return static_cast<float*>(memory.data()); }

// Weights of four layers come one after the other into two buffers, by a second stream, while the layer before is used.
std::vector<float> run_steps(const StepFaults& faults, EmulatedOrder order) {
  set_emulated_order(order);
  const size_t bytes = kNumbers * sizeof(float);
  const GpuMemory x(bytes), add(sizeof(float)), buffer[2] = {GpuMemory(bytes), GpuMemory(bytes)}, staging(bytes, GpuMemoryKind::pinned),
                                                host(bytes, GpuMemoryKind::pinned), host_add(sizeof(float), GpuMemoryKind::pinned);
  GpuStream compute, copies;
  std::vector<float> weights(kLayers * kNumbers);
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = 1 + 0.001f * static_cast<float>(i % 97);
  for (int i = 0; i < kNumbers; ++i) floats(host)[i] = static_cast<float>(i);
  compute.copy(x.data(), host.data(), bytes);
  float add_now = 0;
  auto layers = [&](bool capturing) {
    GpuEvent used[2];
    for (int layer = 0; layer < kLayers; ++layer) {
      const int b = layer % 2;
      if (!capturing) {
        if (faults.waits_for_use) copies.wait(used[b]);
        if (faults.waits_for_staging) copies.synchronise();
        std::memcpy(staging.data(), weights.data() + layer * kNumbers, bytes);
        copies.copy(buffer[b].data(), staging.data(), bytes);
        if (faults.waits_for_copy) compute.wait(copies.record());
      }
      launch("multiply", multiply_kernel, (kNumbers + 127) / 128, 128, 0, compute, floats(x), floats(buffer[b]),
             faults.scalar_on_device ? floats(add) : nullptr, add_now, faults.beyond ? kNumbers + 200 : kNumbers);
      used[b] = compute.record();
    }
  };
  GpuGraph graph;
  for (int step = 0; step < 3; ++step) {
    compute.synchronise();
    add_now = *floats(host_add) = 0.5f * static_cast<float>(step);
    compute.copy(add.data(), host_add.data(), sizeof(float));
    if (!faults.graph || step == 0) {
      layers(false);
      continue;
    }
    if (step == 1) {
      compute.begin_capture();
      layers(true);
      graph = compute.end_capture();
    }
    compute.launch(graph);
  }
  float sum = 0;
  if (faults.touches) sum = floats(x)[0];
  compute.copy(host.data(), x.data(), bytes);
  compute.synchronise();
  if (std::isinf(sum)) return {};
  return {floats(host), floats(host) + kNumbers};
}

struct Seen {
  int differ = 0;  // of 8 orders, from what comes out when everything is done at once and is right
  int64_t touches = 0;
};
Seen seen_of(const StepFaults& faults, const StepFaults& right) {
  Seen seen;
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    const std::vector<float> want = run_steps(right, {false, seed});
    const int64_t before = forbidden_touches();
    seen.differ += run_steps(faults, {true, seed}) != want;
    seen.touches += forbidden_touches() - before;
  }
  set_emulated_order({});
  return seen;
}

TEST(EmulatedGpu, RightStepsAreTheSameInEveryOrder) {
  for (const StepFaults& right : {StepFaults{}, StepFaults{.graph = true}}) {
    const Seen seen = seen_of(right, right);
    EXPECT_EQ(seen.differ, 0);
    EXPECT_EQ(seen.touches, 0);
  }
}

TEST(EmulatedGpu, PlantedFaultsAreNoticed) {
  const StepFaults graph{.graph = true};
  EXPECT_GT(seen_of({.waits_for_copy = false}, {}).differ, 3) << "compute does not wait for the copy";
  EXPECT_GT(seen_of({.waits_for_use = false}, {}).differ, 3) << "the copy does not wait for the buffer's last use";
  EXPECT_GT(seen_of({.waits_for_staging = false}, {}).differ, 3) << "the host fills the staging buffer too early";
  EXPECT_EQ(seen_of({.scalar_on_device = false, .graph = true}, graph).differ, 8) << "a scalar that changes is an argument of a graph";
  EXPECT_GE(seen_of({.touches = true}, {}).touches, 8) << "the host reads device memory";
  EXPECT_GE(seen_of({.beyond = true}, {}).touches, 8) << "a kernel goes beyond its memory";
}

TEST(EmulatedGpu, FreedMemoryIsClosed) {
  const int64_t before = forbidden_touches();
  const size_t held = emulated_bytes();
  GpuStream stream;
  {
    const GpuMemory x(64), w(64);
    EXPECT_EQ(emulated_bytes(), held + 128);
    stream.fill(x.data(), 0, 64);
    stream.synchronise();
    launch("multiply", multiply_kernel, 1, 32, 0, stream, floats(x), floats(w), nullptr, 0.0f, 16);
  }
  EXPECT_EQ(emulated_bytes(), held);
  stream.synchronise();
  EXPECT_GT(forbidden_touches(), before);
}

TEST(EmulatedGpu, CapturesForbidWhatTheyForbid) {
  GpuStream stream;
  EXPECT_THROW(stream.end_capture(), Error);
  stream.begin_capture();
  EXPECT_THROW(GpuMemory(16), Error);
  EXPECT_THROW(stream.synchronise(), Error);
  stream.end_capture();
  const GpuMemory allowed(16);
  EXPECT_NE(allowed.data(), nullptr);
}

TEST(EmulatedGpu, MemoryMovesWithItsOwner) {
  GpuMemory a(16), b;
  void* data = a.data();
  b = std::move(a);
  EXPECT_EQ(b.data(), data);
  EXPECT_EQ(b.bytes(), 16u);
  GpuMemory c(std::move(b));
  EXPECT_EQ(c.data(), data);
  EXPECT_EQ(b.data(), nullptr);
}

TEST(EmulatedGpu, IsThereOnlyWhereItIsAskedFor) {
  EXPECT_TRUE(open_gpu().emulated);
  unsetenv("LORAINE_GPU");
  try {
    open_gpu();
    ADD_FAILURE() << "opened";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, ErrorKind::unsupported);
    EXPECT_STREQ(error.what(), "device cuda: this build has no CUDA code");
  }
  setenv("LORAINE_GPU", "emulated", 1);
}

}  // namespace
}  // namespace loraine::cuda::gpu_test
