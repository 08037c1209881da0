// Adapters are moved when they are first asked for; rows of the cache by way of a room of their own.
#include "loraine/model/gpu/gpu_answers.h"

#include <algorithm>
#include <cstring>

#include "loraine/core/error.h"

namespace loraine {

size_t GpuAnswers::bytes(const GpuBase& base, int64_t rows, int64_t rank_columns, int64_t logit_rows, int64_t cache_pages,
                         int64_t sequences) {
  const GpuAskedShape shape{rows, rank_columns, logit_rows, nullptr, cache_pages, sequences};
  return (cache_pages > 0 ? GpuKvCache::bytes(base.model, cache_pages) : 0) + GpuDecoder::bytes(base.model, shape);
}

GpuAnswers::GpuAnswers(GpuBase& base, int64_t rows, int64_t rank_columns, int64_t logit_rows, int64_t cache_pages, int64_t sequences)
    : base_(base),
      cache_(cache_pages > 0 ? std::make_unique<GpuKvCache>(base.model, cache_pages) : nullptr),
      shape_{rows, rank_columns, logit_rows, cache_.get(), cache_pages, sequences},
      decoder_(std::make_unique<GpuDecoder>(base.model, shape_, base.stream)) {}

void GpuAnswers::reserve_rank_columns(int64_t columns) {
  if (columns <= shape_.rank_columns) return;
  shape_.rank_columns = columns;
  base_.stream.synchronise();
  decoder_.reset();
  decoder_ = std::make_unique<GpuDecoder>(base_.model, shape_, base_.stream);
  for (const auto& [set, adapter] : adapters_) decoder_->make_room_for(*adapter);
}

const GpuAdapter& GpuAnswers::on_gpu(const AdapterSet* set) {
  std::unique_ptr<GpuAdapter>& adapter = adapters_[set];
  if (!adapter) {
    adapter = GpuAdapter::values_of(*set, base_.stream);
    decoder_->make_room_for(*adapter);
  }
  return *adapter;
}

void GpuAnswers::let_go(const AdapterSet* set) {
  const auto at = adapters_.find(set);
  if (at == adapters_.end()) return;
  base_.stream.synchronise();
  adapters_.erase(at);
}

void GpuAnswers::forward(const Batch& batch, std::span<const AdapterSet* const> adapters) {
  std::vector<GpuAdapterRows> rows;
  for (const AdapterRows& one : batch.adapter_rows)
    rows.push_back({one.start, one.length, &on_gpu(adapters[static_cast<size_t>(one.set)])});
  decoder_->forward(batch, rows);
}

void GpuAnswers::copy_page(int32_t to, int32_t from) {
  for (const Tensor& rows : cache_->all()) {
    const Tensor page = rows.row_range(from * kKvPage, kKvPage);
    base_.stream.copy(rows.row_range(to * kKvPage, kKvPage).data, page.data, page.bytes());
  }
}

void GpuAnswers::move_rows(std::span<const int64_t> to, std::span<const int64_t> from) {
  if (to.empty()) return;
  const auto n = static_cast<int64_t>(to.size());
  const size_t list = to.size_bytes();
  const std::vector<Tensor> all = cache_->all();
  int64_t widest = 0;
  for (const Tensor& rows : all) widest = std::max(widest, rows.cols());
  const GpuMemory staging(2 * list, GpuMemoryKind::pinned), lists(2 * list), room(static_cast<size_t>(n * widest) * size_of(all[0].dtype));
  std::memcpy(staging.data(), to.data(), list);
  std::memcpy(static_cast<char*>(staging.data()) + list, from.data(), list);
  base_.stream.copy(lists.data(), staging.data(), 2 * list);
  const auto* rows = static_cast<const int64_t*>(lists.data());
  for (const Tensor& cache : all) {
    const Tensor between(room.data(), cache.dtype, {n, cache.cols()});
    gather_rows_cuda(base_.stream, between, cache, rows + n);
    put_rows_cuda(base_.stream, cache, between, rows);
  }
  base_.stream.synchronise();  // before the room goes
}

}  // namespace loraine
