// Softmax cross entropy on the GPU, a block a row, over pieces of the vocabulary: the largest logit and the sum go along.
#include "loraine/core/error.h"
#include "loraine/kernels/cuda/device.h"
#include "loraine/kernels/training/training_cuda.h"

namespace loraine::cuda {
namespace {

constexpr unsigned kLossThreads = 256;

struct Largest {
  float value;
  int32_t column;
};
struct LossRoom {
  RoomOf<Largest> largest;
  WarpRoom sum, all;
};

template <bool kWhole, class X>
__global__ void __launch_bounds__(256)
    add_logits_kernel(LossState* states, Rows<const X> logits, const int32_t* labels, int64_t first, int64_t W) {
  LossRoom& room = shared<LossRoom>();
  const X* row = logits.data + blockIdx.x * logits.stride;
  Largest mine{-INFINITY, INT32_MAX};
  float sum = 0, all = 0;  // of this thread: Σ e^(x − mine.value), Σ x
  for (int64_t c = static_cast<int64_t>(threadIdx.x) * 8; c < W; c += static_cast<int64_t>(blockDim.x) * 8) {
    float x[8], top = mine.value;
    load_eight<kWhole>(x, row, c, W);
    const int n = W - c < 8 ? static_cast<int>(W - c) : 8;
    for (int i = 0; i < n; ++i) {
      all += x[i];
      if (x[i] > top) top = x[i], mine.column = static_cast<int32_t>(first + c + i);
    }
    if (top > mine.value) sum *= expf(mine.value - top);
    mine.value = top;
    for (int i = 0; i < n; ++i) sum += expf(x[i] - top);
  }
  auto larger = [](Largest a, Largest b) { return b.value > a.value || (b.value == a.value && b.column < a.column) ? b : a; };
  Largest most = block_reduce(mine, room.largest, larger);
  LossState& state = states[blockIdx.x];
  const LossState before = first > 0 ? state : LossState{-INFINITY, 0, 0, 0, INT32_MAX};
  most = larger(most, {before.most, before.best});
  sum = block_sum(mine.value > -INFINITY ? sum * expf(mine.value - most.value) : 0.0f, room.sum);
  all = block_sum(all, room.all);
  if (threadIdx.x > 0) return;
  if (before.most > -INFINITY) sum += before.sum * expf(before.most - most.value);
  const int64_t label = labels[blockIdx.x] - first;
  state = {most.value, sum, label >= 0 && label < W ? to_float(row[label]) : before.at_label, before.all + all, most.column};
}

struct LossShape {
  int64_t V;
  float smoothing;
  bool by_probability;
};

__device__ __forceinline__ double surprise_of(const LossState& s) {
  return log(static_cast<double>(s.sum)) + static_cast<double>(s.most) - static_cast<double>(s.at_label);
}

__global__ void __launch_bounds__(256)
    losses_kernel(double* losses, uint8_t* correct, const LossState* states, const int32_t* labels, int64_t n, LossShape shape) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const LossState s = states[i];
  const double surprise = surprise_of(s);
  double loss = shape.by_probability ? exp(-surprise) * surprise : surprise;
  if (shape.smoothing > 0)
    loss += static_cast<double>(shape.smoothing) *
            (static_cast<double>(s.at_label) - static_cast<double>(s.all) / static_cast<double>(shape.V));
  losses[i] = loss;
  if (correct) correct[i] = s.best == labels[i];
}

// w (p − onehot), smoothed p − (1 − ε) onehot − ε / V. Each thread reads what it overwrites.
template <bool kWhole, class D, class X>
__global__ void __launch_bounds__(256)
    logit_gradient_kernel(Rows<D> d_logits, Rows<const X> logits, const LossState* states, const int32_t* labels, int64_t first, int64_t W,
                          float grad_scale, LossShape shape) {
  const int64_t c = (static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x) * 8;
  if (c >= W) return;
  const LossState s = states[blockIdx.x];
  const int64_t label = labels[blockIdx.x] - first;
  const float of_label = (shape.by_probability ? static_cast<float>(exp(-surprise_of(s))) : 1.0f) * grad_scale;
  const float factor = of_label / s.sum, even = shape.smoothing * grad_scale / static_cast<float>(shape.V);
  float x[8];
  load_eight<kWhole>(x, logits.data + blockIdx.x * logits.stride, c, W);
  UNROLL
  for (int i = 0; i < 8; ++i) x[i] = expf(x[i] - s.most) * factor - (c + i == label ? (1.0f - shape.smoothing) * of_label : 0.0f) - even;
  store_eight<kWhole>(d_logits.data + blockIdx.x * d_logits.stride, c, W, x);
}

LossShape loss_shape(const char* op, int64_t V, const TokenLoss& loss) {
  if (loss.weight == TokenWeight::entropy || loss.divergence != 0)
    throw Error(ErrorKind::unsupported, std::string(op) + ": a loss weighted by entropy or with a divergence, which have no GPU code",
                "Run on the CPU (device: cpu).");
  return {V, loss.smoothing, loss.weight == TokenWeight::probability};
}

}  // namespace
}  // namespace loraine::cuda

namespace loraine {

using namespace cuda;

void add_logits_cuda(GpuStream& stream, LossState* states, const Tensor& logits, const int32_t* labels, int64_t first) {
  with_type(logits, [&]<class X>(X) {
    auto kernel = whole_vectors(logits) ? add_logits_kernel<true, X> : add_logits_kernel<false, X>;
    stream.moves(bytes_in(logits));
    launch("add_logits", kernel, static_cast<unsigned>(logits.rows()), row_threads(logits.cols()), sizeof(LossRoom), stream, states,
           rows_of<const X>(logits), labels, first, logits.cols());
  });
}

void losses_cuda(GpuStream& stream, double* losses, uint8_t* correct, const LossState* states, const int32_t* labels, int64_t n, int64_t V,
                 const TokenLoss& loss) {
  stream.moves(static_cast<double>(n) * (sizeof(LossState) + sizeof(double)));
  launch("losses", losses_kernel, static_cast<unsigned>((n + kLossThreads - 1) / kLossThreads), kLossThreads, 0, stream, losses, correct,
         states, labels, n, loss_shape("losses", V, loss));
}

void logit_gradient_cuda(GpuStream& stream, const Tensor& d_logits, const Tensor& logits, const LossState* states, const int32_t* labels,
                         int64_t first, int64_t V, float grad_scale, const TokenLoss& loss) {
  const int64_t per_block = int64_t{row_threads(logits.cols())} * 8;
  const dim3 grid(static_cast<unsigned>(logits.rows()), static_cast<unsigned>((logits.cols() + per_block - 1) / per_block));
  with_types(d_logits, logits, [&]<class D, class X>(D, X) {
    auto kernel = whole_vectors(d_logits, logits) ? logit_gradient_kernel<true, D, X> : logit_gradient_kernel<false, D, X>;
    stream.moves(bytes_in(d_logits, logits));
    launch("logit_gradient", kernel, grid, row_threads(logits.cols()), 0, stream, rows_of<D>(d_logits), rows_of<const X>(logits), states,
           labels, first, logits.cols(), grad_scale, loss_shape("logit_gradient", V, loss));
  });
}

}  // namespace loraine
