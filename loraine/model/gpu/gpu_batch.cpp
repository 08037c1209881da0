// One block of pinned memory with a place for each array, as large as the largest batch needs it.
#include "loraine/model/gpu/gpu_batch.h"

#include <algorithm>
#include <cstring>

namespace loraine {

GpuBatch::GpuBatch(GpuArena& arena, int64_t most_rows) : most_rows_(most_rows) {
  const size_t sizes[kArrays] = {sizeof(int32_t), sizeof(int32_t), sizeof(GpuSequence), sizeof(int64_t), sizeof(int32_t), 0};
  for (int array = 0; array < kArrays; ++array) {
    begins_[array] = bytes_;
    bytes_ += (static_cast<size_t>(most_rows) * sizes[array] + 255) / 256 * 256;
  }
  bytes_ += sizeof(DropoutStep);
  memory_ = arena.take_bytes(bytes_);
  if (!arena.dry()) staging_ = GpuMemory(bytes_, GpuMemoryKind::pinned);
}

void GpuBatch::upload(GpuStream& stream, const Batch& batch, DropoutStep dropout) {
  rows_ = batch.rows();
  if (rows_ > most_rows_) throw Error(ErrorKind::internal, "a batch has more rows than the GPU's memory was planned for");
  for (const Sequence& s : batch.sequences)
    if (s.parent >= 0 || s.pages || s.kv_start != s.start || s.kv_length != s.length)
      throw Error(ErrorKind::internal, "a sequence that shares rows, or keeps its keys elsewhere, on its way to the GPU");
  const GpuSequences sequences = gpu_sequences(batch.sequences);
  sequences_ = static_cast<int64_t>(sequences.sequences.size());
  longest_ = sequences.longest;
  labelled_.clear();
  std::vector<int32_t> labels;
  for (size_t t = 0; t < batch.labels.size(); ++t)
    if (batch.labels[t] != kIgnoreLabel) labelled_.push_back(static_cast<int64_t>(t)), labels.push_back(batch.labels[t]);
  stream.synchronise();  // the staging memory is free
  const auto put = [&](Array array, const auto& values) {
    if (!values.empty())
      std::memcpy(static_cast<char*>(staging_.data()) + begins_[array], values.data(), values.size() * sizeof(values[0]));
  };
  put(kTokens, batch.tokens), put(kPositions, batch.positions), put(kSequences, sequences.sequences), put(kLabelled, labelled_);
  put(kLabels, labels), put(kDropout, std::vector<DropoutStep>{dropout});
  stream.copy(memory_, staging_.data(), bytes_);
}

}  // namespace loraine
