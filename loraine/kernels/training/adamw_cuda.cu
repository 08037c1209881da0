// AdamW over all tensors of a set in one launch, and the norm of their gradients in two. With the order of operations of adamw_cpu.cpp.
#include <cmath>

#include "loraine/kernels/cuda/device.h"
#include "loraine/kernels/training/training_cuda.h"

namespace loraine::cuda {
namespace {

constexpr unsigned kUpdateThreads = 256;
constexpr int64_t kNormBlock = 8192;  // elements whose squares one block adds up

// Blocks of a launch over items of at most `most` elements, `each` of them a block.
unsigned blocks_for(int64_t most, int64_t each) { return static_cast<unsigned>(std::max<int64_t>(1, (most + each - 1) / each)); }

__device__ __forceinline__ double block_sum(double x, RoomOf<double>& room) {
  return block_reduce(x, room, [](double a, double b) { return a + b; });
}

__global__ void __launch_bounds__(kUpdateThreads) gradient_squares_kernel(double* partial, const GradientItem* items) {
  const GradientItem item = items[blockIdx.y];
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kNormBlock, end = first + kNormBlock < item.n ? first + kNormBlock : item.n;
  double sum = 0;
  for (int64_t i = first + threadIdx.x; i < end; i += kUpdateThreads)
    sum += static_cast<double>(item.gradient[i]) * static_cast<double>(item.gradient[i]);
  sum = block_sum(sum, shared<RoomOf<double>>());
  if (threadIdx.x == 0) partial[static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kUpdateThreads)
    gradient_norm_kernel(GradientNorm* out, const double* partial, int64_t n, double max_norm) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += kUpdateThreads) sum += partial[i];
  sum = sqrt(block_sum(sum, shared<RoomOf<double>>()));
  if (threadIdx.x > 0) return;
  const double scale = max_norm / (sum + 1e-6);
  *out = {sum, max_norm > 0 && scale < 1 ? static_cast<float>(scale) : 1.0f};
}

__global__ void __launch_bounds__(kUpdateThreads)
    adamw_kernel(const AdamWItem* items, const AdamWScalars* scalars, const GradientNorm* norm) {
  const AdamWItem item = items[blockIdx.y];
  const AdamWScalars s = scalars[item.rate];
  if (!(norm->norm < INFINITY)) return;
  const float grad_scale = norm->scale, decay = static_cast<float>(1 - s.learning_rate * item.weight_decay);
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kUpdateThreads + threadIdx.x; i < item.n;
       i += static_cast<int64_t>(gridDim.x) * kUpdateThreads) {
    const float g = item.gradient[i] * grad_scale, before = item.m[i];
    const float m = s.lerp < 0.5f ? before + s.lerp * (g - before) : g - (g - before) * (1.0f - s.lerp);
    const float v = item.v[i] * s.beta2 + s.one_minus_beta2 * g * g;
    const float value = item.value[i] * decay - s.step_size * (m / (sqrtf(v) / s.denominator + s.epsilon));
    item.m[i] = m, item.v[i] = v, item.value[i] = value;
    if (item.copy)
      write_element({item.copy, item.copy_stride, item.copy_narrow}, i / item.copy_cols, i % item.copy_cols, value * item.copy_scale);
  }
}

}  // namespace
}  // namespace loraine::cuda

namespace loraine {

using namespace cuda;

int64_t gradient_norm_room(int64_t count, int64_t most) { return count * blocks_for(most, kNormBlock); }

void gradient_norm_cuda(GpuStream& stream, GradientNorm* out, const GradientItem* items, int64_t count, int64_t most, double max_norm,
                        double* partial) {
  stream.moves(4.0 * static_cast<double>(count * most));
  launch("gradient_squares", gradient_squares_kernel, dim3(blocks_for(most, kNormBlock), static_cast<unsigned>(count)), kUpdateThreads,
         sizeof(RoomOf<double>), stream, partial, items);
  stream.moves(8.0 * static_cast<double>(gradient_norm_room(count, most)));
  launch("gradient_norm", gradient_norm_kernel, 1, kUpdateThreads, sizeof(RoomOf<double>), stream, out, partial,
         gradient_norm_room(count, most), max_norm);
}

void adamw_cuda(GpuStream& stream, const AdamWItem* items, int64_t count, int64_t most, int64_t all, const AdamWScalars* scalars,
                const GradientNorm* norm) {
  constexpr int64_t kEach = 4;                    // elements of a thread
  stream.moves(28.0 * static_cast<double>(all));  // four read, three written
  launch("adamw", adamw_kernel, dim3(blocks_for(most, kUpdateThreads * kEach), static_cast<unsigned>(count)), kUpdateThreads, 0, stream,
         items, scalars, norm);
}

}  // namespace loraine
