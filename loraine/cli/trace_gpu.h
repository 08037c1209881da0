// What `loraine trace` computes of a batch, on the GPU.
#pragma once
#include <span>
#include <vector>

#include "loraine/core/batch.h"
#include "loraine/model/gpu/gpu_base.h"

namespace loraine {

struct TraceOnGpu {
  GpuBase& gpu;
  const Batch& batch;
  std::span<const AdapterSet* const> sets;  // batch.adapter_rows count these
  bool gradients;                           // of sets[0], over all rows, into its own tensors
  float grad_scale;
  std::span<const int64_t> places;  // row of logits of each row of the batch
};
// logits [.., V] F32 in the host's memory; gives the sum of the losses of labelled rows.
double trace_on_gpu(const TraceOnGpu& trace, const Tensor& logits);

}  // namespace loraine
