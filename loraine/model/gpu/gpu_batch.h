// A batch in device memory: made on the host and moved by one copy. Called by gpu_decoder.
#pragma once
#include <vector>

#include "loraine/core/gpu_arena.h"
#include "loraine/kernels/attention/attention_cuda.h"
#include "loraine/kernels/rows/rows_cuda.h"

namespace loraine {

class GpuBatch {
 public:
  // pages: most that the sequences of a batch have in a cache, together; 0: there is none, and sequences are whole.
  GpuBatch(GpuArena& arena, int64_t most_rows, int64_t pages = 0);
  // The batch, and where dropout draws from. Throws internal for sequences that share rows. What was uploaded before need not have been
  // used yet: each has pinned memory of its own, until all_done says that the host has waited for all of them.
  void all_done() { next_ = 0; }
  void upload(GpuStream& stream, const Batch& batch, DropoutStep dropout);

  int64_t rows() const { return rows_; }
  const int32_t* tokens() const { return device<int32_t>(kTokens); }        // [rows]
  const int32_t* positions() const { return device<int32_t>(kPositions); }  // [rows]
  AttentionBatch sequences() const {
    const auto count = static_cast<int64_t>(sequences_.sequences.size());
    return {device<GpuSequence>(kSequences), most_pages_ > 0 ? device<int32_t>(kPages) : nullptr, count, sequences_.longest,
            sequences_.sequences};
  }
  const int64_t* cache_rows() const { return device<int64_t>(kCacheRows); }  // [rows] where their keys and values go
  const std::vector<int64_t>& labelled() const { return labelled_; }         // rows with a label, ascending
  const int64_t* labelled_rows() const { return device<int64_t>(kLabelled); }
  const int32_t* labels() const { return device<int32_t>(kLabels); }  // of these
  const DropoutStep* dropout() const { return device<DropoutStep>(kDropout); }

 private:
  enum Array { kTokens, kPositions, kSequences, kLabelled, kLabels, kCacheRows, kPages, kDropout, kArrays };
  template <class T>
  const T* device(Array array) const {
    return reinterpret_cast<const T*>(static_cast<const char*>(memory_) + begins_[array]);
  }

  int64_t most_rows_, most_pages_, rows_ = 0;
  GpuSequences sequences_;
  size_t begins_[kArrays], bytes_ = 0;
  void* memory_ = nullptr;
  std::vector<GpuMemory> stagings_;
  size_t next_ = 0;
  std::vector<int64_t> labelled_;
};

}  // namespace loraine
