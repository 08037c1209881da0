// Attention and rope on the GPU: the ops of attention.h and rope.h, whose shapes and types hold here too; tensors and arrays, the sinks of
// a shape among them, lie in device memory.
#pragma once
#include <span>
#include <vector>

#include "loraine/core/batch.h"
#include "loraine/core/gpu.h"
#include "loraine/kernels/attention/attention.h"
#include "loraine/kernels/attention/rope.h"

namespace loraine {

// positions [T], inverse_frequencies [frequencies]; direction 1, or −1 for the gradient.
void rope_cuda(GpuStream& stream, const Tensor& x, int64_t head_dim, const int32_t* positions, const float* inverse_frequencies,
               int64_t frequencies, float scale, float direction, RopeLayout layout, int64_t first);

// The sequences of a batch as kernels read them: made on the host, uploaded with the batch.
struct GpuSequence {
  int32_t start, length, kv_start, kv_length;
  int32_t first_page;  // of its pages in the list of all; −1: its keys and values lie from kv_start on
};
struct GpuSequences {
  std::vector<GpuSequence> sequences;
  std::vector<int32_t> pages;
  int64_t longest = 0;  // rows
};
GpuSequences gpu_sequences(std::span<const Sequence> sequences);
// Where they lie in device memory.
struct AttentionBatch {
  const GpuSequence* sequences = nullptr;
  const int32_t* pages = nullptr;  // nullptr: no sequence has any
  int64_t count = 0, longest = 0;
  std::span<const GpuSequence> on_host = {};  // the same, where it is counted what attention computes
};
// Pairs of a query and a key that it sees, of one head, over all sequences of the batch.
double attended_pairs(const AttentionBatch& batch, const AttentionShape& shape);

// Heads are at most 576 wide. BF16 with keys and values of one width, 64 or 128, in rows without pages runs on the matrix units.
void attention_cuda(GpuStream& stream, const Tensor& o, const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
                    const AttentionBatch& batch, const AttentionShape& shape);
// delta [T, H] F32 is room. d_sinks [H] may be nullptr. A row of the batch that is in no sequence stays as it is.
void attention_backward_cuda(GpuStream& stream, const Tensor& d_q, const Tensor& d_k, const Tensor& d_v, const Tensor& d_o, const Tensor& o,
                             const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v, const AttentionBatch& batch,
                             const AttentionShape& shape, const Tensor& delta, float* d_sinks);

}  // namespace loraine
