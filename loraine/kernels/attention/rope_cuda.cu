// Rotary embedding on the GPU: a block a row; a thread turns the same pair of columns in every head, or in every fourth.
#include "loraine/kernels/attention/attention_cuda.h"
#include "loraine/kernels/cuda/device.h"

namespace loraine::cuda {
namespace {

constexpr unsigned kHeadLanes = 4;

struct RopeShape {
  int heads, head_dim, first, pairs;
  float scale, direction;
  bool halves;
};

template <class T>
__global__ void __launch_bounds__(512) rope_kernel(Rows<T> x, const int32_t* positions, const float* inverse_frequencies, RopeShape shape) {
  const float position = static_cast<float>(positions[blockIdx.x]);
  T* row = x.data + blockIdx.x * x.stride + shape.first;
  for (int i = static_cast<int>(threadIdx.x); i < shape.pairs; i += static_cast<int>(blockDim.x)) {
    const float angle = position * inverse_frequencies[i];
    const float cosine = cosf(angle) * shape.scale, sine = sinf(angle) * shape.scale * shape.direction;
    const int first = shape.halves ? i : 2 * i, second = shape.halves ? i + shape.pairs : 2 * i + 1;
    for (int h = static_cast<int>(threadIdx.y); h < shape.heads; h += static_cast<int>(kHeadLanes)) {
      T* head = row + static_cast<int64_t>(h) * shape.head_dim;
      const float a = to_float(head[first]), b = to_float(head[second]);
      from_float(head[first], a * cosine - b * sine);
      from_float(head[second], b * cosine + a * sine);
    }
  }
}

}  // namespace
}  // namespace loraine::cuda

namespace loraine {

using namespace cuda;

void rope_cuda(GpuStream& stream, const Tensor& x, int64_t head_dim, const int32_t* positions, const float* inverse_frequencies,
               int64_t frequencies, float scale, float direction, RopeLayout layout, int64_t first) {
  if (frequencies == 0) return;
  const RopeShape shape{static_cast<int>(x.cols() / head_dim),
                        static_cast<int>(head_dim),
                        static_cast<int>(first),
                        static_cast<int>(frequencies),
                        scale,
                        direction,
                        layout == RopeLayout::half};
  const unsigned threads = frequencies <= 32 ? 32 : frequencies <= 64 ? 64 : 128;
  with_type(x, [&]<class T>(T) {
    stream.moves(2.0 * static_cast<double>(x.rows() * (x.cols() / head_dim) * 2 * frequencies) * static_cast<double>(size_of(x.dtype)));
    launch("rope", rope_kernel<T>, static_cast<unsigned>(x.rows()), dim3(threads, kHeadLanes), 0, stream, rows_of<T>(x), positions,
           inverse_frequencies, shape);
  });
}

}  // namespace loraine
