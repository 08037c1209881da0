// One block of pinned memory with a place for each array, as large as the largest batch needs it.
#include "loraine/model/gpu/gpu_batch.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace loraine {

GpuBatch::GpuBatch(GpuArena& arena, int64_t most_rows, int64_t pages) : most_rows_(most_rows), most_pages_(pages) {
  const int64_t cached = pages > 0 ? most_rows : 0;
  const std::pair<size_t, int64_t> sizes[kArrays] = {
      {sizeof(int32_t), most_rows}, {sizeof(int32_t), most_rows}, {sizeof(GpuSequence), most_rows}, {sizeof(int64_t), most_rows},
      {sizeof(int32_t), most_rows}, {sizeof(int64_t), cached},    {sizeof(int32_t), pages},         {0, 0}};
  for (int array = 0; array < kArrays; ++array) {
    begins_[array] = bytes_;
    bytes_ += (sizes[array].first * static_cast<size_t>(sizes[array].second) + 255) / 256 * 256;
  }
  bytes_ += sizeof(DropoutStep);
  memory_ = arena.take_bytes(bytes_);
  if (!arena.dry()) stagings_.emplace_back(bytes_, GpuMemoryKind::pinned);
}

void GpuBatch::upload(GpuStream& stream, const Batch& batch, DropoutStep dropout) {
  rows_ = batch.rows();
  if (rows_ > most_rows_) throw Error(ErrorKind::internal, "a batch has more rows than the GPU's memory was planned for");
  std::vector<int64_t> cache_rows;
  for (const Sequence& s : batch.sequences) {
    const bool whole = !s.pages && s.kv_start == s.start && s.kv_length == s.length;
    if (s.parent >= 0 || (most_pages_ > 0 ? !s.pages : !whole))
      throw Error(ErrorKind::internal, "a sequence that shares rows, or keeps its keys elsewhere, on its way to the GPU");
    if (most_pages_ == 0) continue;
    if (s.start != static_cast<int64_t>(cache_rows.size())) throw Error(ErrorKind::internal, "rows of a batch outside of all sequences");
    for (int64_t r = s.kv_length - s.length; r < s.kv_length; ++r) cache_rows.push_back(s.kv_row(r));
  }
  sequences_ = gpu_sequences(batch.sequences);
  if (static_cast<int64_t>(sequences_.pages.size()) > most_pages_)
    throw Error(ErrorKind::internal, "sequences of a batch have more pages than the GPU's memory was planned for");
  labelled_.clear();
  std::vector<int32_t> labels;
  for (size_t t = 0; t < batch.labels.size(); ++t)
    if (batch.labels[t] != kIgnoreLabel) labelled_.push_back(static_cast<int64_t>(t)), labels.push_back(batch.labels[t]);
  constexpr size_t kMostStagings = 16;
  if (next_ == kMostStagings) stream.synchronise(), next_ = 0;
  if (next_ == stagings_.size() && !stream.dry()) stagings_.emplace_back(bytes_, GpuMemoryKind::pinned);
  char* staging = stream.dry() ? nullptr : static_cast<char*>(stagings_[next_++].data());
  const auto put = [&](Array array, const auto& values) {
    if (!values.empty() && staging) std::memcpy(staging + begins_[array], values.data(), values.size() * sizeof(values[0]));
  };
  put(kTokens, batch.tokens), put(kPositions, batch.positions), put(kSequences, sequences_.sequences), put(kLabelled, labelled_);
  put(kLabels, labels), put(kCacheRows, cache_rows), put(kPages, sequences_.pages), put(kDropout, std::vector<DropoutStep>{dropout});
  stream.copy(memory_, staging, bytes_);
}

}  // namespace loraine
