// The memory of gpu_decoder: what branches keep, each for itself, and the room of a step, which all share.
#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "loraine/model/gpu/gpu_decoder.h"

namespace loraine {

namespace {

constexpr int64_t kLossRows = 1024;  // rows whose logits are there at a time

// Room of the products with A and B of one site, for batches of up to `rows` rows: how far they cut their sums follows from the shape.
int64_t adapter_room(const GpuLora& lora, int64_t rows) {
  std::set<std::pair<int64_t, int64_t>> widths;  // of B's, [out, r]
  for (const GpuLoraPart& part : lora.parts) widths.emplace(part.out, part.r);
  const int64_t in = lora.a.cols(), R = lora.rank();
  int64_t most = 0;
  for (int64_t T = 1; T <= rows; ++T) {
    most = std::max({most, thin_product_room(T, R, in), thin_product_room(R, in, T), thin_product_room(T, in, R)});
    for (const auto& [out, r] : widths)
      most = std::max({most, thin_product_room(T, out, r), thin_product_room(T, r, out), thin_product_room(out, r, T)});
  }
  return most;
}

}  // namespace

void GpuDecoder::plan(int64_t rows) {
  const Dtype type = model_.type;
  const int64_t C = model_.config.hidden_size, V = model_.config.vocab_size;
  int64_t inner = 0, f = 0, o = 0, heads = 0, in = 0, rank = 0, room = 0;
  std::set<std::vector<int64_t>> seen;  // sites of one shape need one look
  const auto columns = [&](const GpuSite& site) {
    const GpuLora* lora = adapter_.at(site.index);
    if (!lora) return Tensor();
    if (lora->dropout > 0) in = std::max(in, lora->a.cols());
    rank = std::max(rank, lora->rank());
    std::vector<int64_t> shape = {lora->a.cols()};
    for (const GpuLoraPart& part : lora->parts) shape.push_back(part.out), shape.push_back(part.r);
    if (seen.insert(shape).second) room = std::max(room, adapter_room(*lora, rows));
    return take(type, rows, lora->rank());
  };
  for (const auto& layer : model_.layers) {
    std::vector<Kept>& here = kept_.emplace_back();
    for (const GpuBranch& branch : layer) {
      Kept& kept = here.emplace_back();
      const int64_t wide = branch.in.weight.rows();
      inner = std::max(inner, wide);
      kept.x = take(type, rows, C);
      kept.rstd = memory_.take(Dtype::F32, {rows});
      kept.inner = take(type, rows, wide);
      kept.in_columns = columns(branch.in);
      kept.out_columns = columns(branch.out);
      if (branch.mlp) {
        f = std::max(f, branch.out.weight.cols());
        continue;
      }
      kept.o = take(type, rows, branch.attention->q_size());
      kept.lse = take(Dtype::F32, rows, branch.attention->heads);
      o = std::max(o, branch.attention->q_size());
      heads = std::max(heads, branch.attention->heads);
      if (branch.head_norms.empty()) continue;
      kept.before = take(type, rows, branch.normed_columns());
      kept.head_rstd = take(Dtype::F32, static_cast<int64_t>(branch.head_norms.size()), rows);
    }
  }
  x_last_ = take(type, rows, C), hidden_ = take(type, rows, C);
  last_rstd_ = memory_.take(Dtype::F32, {rows});
  if (type != Dtype::F32) sum_ = take(Dtype::F32, rows, C), d_y_ = take(type, rows, C);
  d_hidden_ = take(Dtype::F32, rows, C);
  h_ = take(type, rows, C), y_ = take(Dtype::F32, rows, C), d_h_ = take(Dtype::F32, rows, C);
  d_inner_ = take(type, rows, inner), f_ = take(type, rows, f), d_f_ = take(type, rows, f);
  d_o_ = take(type, rows, o), delta_ = take(Dtype::F32, rows, heads);
  adapter_x_ = take(type, rows, in), adapter_g_ = take(type, rows, rank);
  partial_ = memory_.take_array<float>(room);
  const int64_t chunk = std::min(rows, kLossRows);
  loss_x_ = take(type, chunk, C), logits_ = take(Dtype::F32, chunk, V), d_loss_x_ = take(Dtype::F32, chunk, C);
  d_logits_ = type == Dtype::F32 ? logits_ : take(type, chunk, V);
  states_ = memory_.take_array<LossState>(rows);
  loss_values_ = memory_.take_array<double>(2 * rows);
  correct_ = memory_.take_array<uint8_t>(rows);
  if (!memory_.dry()) loss_staging_ = GpuMemory(static_cast<size_t>(rows) * (2 * sizeof(double) + 1), GpuMemoryKind::pinned);
}

size_t GpuDecoder::bytes(const Model& model, const AdapterSet& set, int64_t most_rows) {
  GpuStream none;
  const GpuModel shapes = GpuModel::shapes(model);
  const GpuAdapter adapter(set, none, true);
  return GpuDecoder(shapes, adapter, most_rows, none, GpuArena()).memory_.used();
}

GpuDecoder::GpuDecoder(const GpuModel& model, const GpuAdapter& adapter, int64_t most_rows, GpuStream& stream, GpuArena memory)
    : model_(model), adapter_(adapter), stream_(stream), memory_(std::move(memory)), batch_(memory_, most_rows) {
  plan(most_rows);
}

GpuDecoder::GpuDecoder(const GpuModel& model, const GpuAdapter& adapter, int64_t most_rows, GpuStream& stream)
    : GpuDecoder(model, adapter, most_rows, stream, GpuArena(GpuDecoder(model, adapter, most_rows, stream, GpuArena()).memory_.used())) {
  gemm_.emplace();
}

}  // namespace loraine
