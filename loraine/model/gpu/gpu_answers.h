// A base on the GPU that is asked, by its own adapters: batches of sequences, with a cache of keys and values or without one, hidden states
// and logits. Called by the engine and by evaluation; nothing is trained here.
#pragma once
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "loraine/model/gpu/gpu_base.h"
#include "loraine/model/gpu/gpu_decoder.h"

namespace loraine {

class GpuAnswers {
 public:
  // cache_pages 0: sequences are whole. sequences: most in a batch, of the cache.
  GpuAnswers(GpuBase& base, int64_t rows, int64_t rank_columns, int64_t logit_rows, int64_t cache_pages = 0, int64_t sequences = 0);
  // Of device memory, beside the base and the adapters.
  static size_t bytes(const GpuBase& base, int64_t rows, int64_t rank_columns, int64_t logit_rows, int64_t cache_pages = 0,
                      int64_t sequences = 0);
  void reserve_rank_columns(int64_t columns);  // the cache stays as it is

  // batch.adapter_rows: whose rows of `adapters`. Their values are those of the first time, until they are let go.
  void forward(const Batch& batch, std::span<const AdapterSet* const> adapters);
  void logits(const Tensor& logits, std::span<const int64_t> rows) { decoder_->logits(logits, rows); }
  GpuDecoder& decoder() { return *decoder_; }  // that the last batch ran in
  int64_t logit_rows() const { return decoder_->logit_rows(); }
  void let_go(const AdapterSet* set);
  void synchronise() { base_.stream.synchronise(); }

  void copy_page(int32_t to, int32_t from);
  // Rows of the cache: to[i] becomes what from[i] was before.
  void move_rows(std::span<const int64_t> to, std::span<const int64_t> from);

 private:
  const GpuAdapter& on_gpu(const AdapterSet* set);

  GpuBase& base_;
  std::unique_ptr<GpuKvCache> cache_;
  GpuAskedShape shape_;
  std::unique_ptr<GpuDecoder> decoder_;
  std::map<const AdapterSet*, std::unique_ptr<GpuAdapter>> adapters_;
};

}  // namespace loraine
