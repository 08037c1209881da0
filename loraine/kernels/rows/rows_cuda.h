// Small memory-bound ops on the GPU: those of elementwise.h that the decoder needs, whose shapes and types hold here too; tensors and
// arrays lie in device memory.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "loraine/core/gpu.h"
#include "loraine/core/tensor.h"

namespace loraine {

void add_cuda(GpuStream& stream, const Tensor& y, const Tensor& a, const Tensor& b);  // y may be a or b
void add_bias_cuda(GpuStream& stream, const Tensor& y, const float* bias);
void convert_rows_cuda(GpuStream& stream, const Tensor& y, const Tensor& x);
// table [V, C] F32, F16 or BF16; tokens [T] within it
void embedding_cuda(GpuStream& stream, const Tensor& y, const Tensor& table, const int32_t* tokens);
void gather_rows_cuda(GpuStream& stream, const Tensor& y, const Tensor& x, const int64_t* rows);  // y[i] = x[rows[i]], of one type
// y[rows[i]] = x[i], of one type, no row twice: keys and values into the pages of a cache. The other rows stay.
void put_rows_cuda(GpuStream& stream, const Tensor& y, const Tensor& x, const int64_t* rows);

// Rows of a batch by their token, so that the gradient of an embedding needs no scatter: tokens that occur, in the order of their first
// rows; those of tokens[g] are rows[starts[g]] … rows[starts[g + 1] − 1], ascending. Made on the host, uploaded with the batch.
struct RowsByToken {
  std::vector<int32_t> tokens, starts, rows;
};
RowsByToken rows_by_token(std::span<const int32_t> tokens);
// d_table [V, C] F32: row tokens[g] += the rows of d_y [T, C] F32 with it, in their order. `groups` of them.
void embedding_gradient_cuda(GpuStream& stream, const Tensor& d_table, const Tensor& d_y, const int32_t* tokens, const int32_t* starts,
                             const int32_t* rows, int64_t groups);

// Where the numbers of dropout and noise come from at a step; in device memory, so that a graph of the step can be replayed.
struct DropoutStep {
  uint64_t seed, step;  // of Context
  float noise = 0;      // the size of add_noise_cuda's
};
// dropout of elementwise.h: y may be x.
void dropout_cuda(GpuStream& stream, const Tensor& y, const Tensor& x, float p, const DropoutStep* step, uint64_t site);

// add_noise of kernels/training/noise.h, of size step->noise: y [T, C] F32.
void add_noise_cuda(GpuStream& stream, const Tensor& y, const DropoutStep* step, uint64_t site);

// best[t] = the column of the largest element of row t, of several the first. x [T, C]. Greedy decoding.
void argmax_rows_cuda(GpuStream& stream, int32_t* best, const Tensor& x);

}  // namespace loraine
