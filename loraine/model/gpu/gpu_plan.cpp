// The memory of gpu_decoder: what branches keep, each for itself, and the room of a step, which all share.
#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "loraine/kernels/rows/columns_cuda.h"
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
  if (lora.dora())  // its norms
    for (const auto& [out, r] : widths)
      most = std::max({most, thin_product_room(out, r, in), thin_product_room(r, r, in), thin_product_room(out, r, r)});
  for (int64_t T = 1; T <= rows; ++T) {
    most = std::max({most, thin_product_room(T, R, in), thin_product_room(R, in, T), thin_product_room(T, in, R)});
    for (const auto& [out, r] : widths)
      most = std::max({most, thin_product_room(T, out, r), thin_product_room(T, r, out), thin_product_room(out, r, T)});
  }
  return most;
}

// The largest of all sites of an adapter; those of one shape need one look. trained: where they are joined, the library has the products.
int64_t room_of(const GpuModel& model, const GpuAdapter& adapter, int64_t rows, bool trained) {
  std::set<std::vector<int64_t>> seen;
  int64_t room = 0;
  for (const auto& layer : model.layers)
    for (const GpuBranch& branch : layer)
      for (const GpuSite* site : {&branch.in, &branch.out}) {
        const GpuLora* lora = adapter.at(site->index);
        if (!lora || (trained && site->ranks() > 0)) continue;
        std::vector<int64_t> shape = {lora->a.cols(), lora->dora()};
        for (const GpuLoraPart& part : lora->parts) shape.push_back(part.out), shape.push_back(part.r);
        if (seen.insert(shape).second) room = std::max(room, adapter_room(*lora, rows));
      }
  return room;
}

template <class Has>
bool has_branch(const GpuModel& model, Has&& has) {
  return std::ranges::any_of(model.layers, [&](const auto& layer) { return std::ranges::any_of(layer, has); });
}

// Elements of the largest weight that is unpacked.
int64_t most_unpacked(const GpuModel& model) {
  int64_t most = 0;
  const auto see = [&](const GpuSite& site) {
    if (!site.packed.empty()) most = std::max(most, site.weight.numel());
  };
  see(model.head);
  for (const auto& layer : model.layers)
    for (const GpuBranch& branch : layer) see(branch.in), see(branch.out);
  return most;
}

Tensor first_columns(const Tensor& room, int64_t cols) { return {room.data, room.dtype, {room.rows(), cols}}; }

}  // namespace

// Each branch's own, or of those that share it the room of the largest.
void GpuDecoder::plan_kept() {
  const int64_t rows = shape_.rows, C = model_.config.hidden_size;
  const Dtype type = model_.type;
  const auto rank = [&](const GpuSite& site) {
    if (!shape_.trained) return shape_.asked.rank_columns;
    const GpuLora* lora = shape_.trained->at(site.index);
    return lora ? lora->rank() : 0;
  };
  int64_t inner = 0, before = 0, norms = 0, o = 0, heads = 0, in_rank = 0, out_rank = 0;
  for (const auto& layer : model_.layers)
    for (const GpuBranch& branch : layer) {
      if (!shape_.shares(branch)) continue;
      inner = std::max(inner, branch.in.weight.rows() + (branch.mlp ? branch.in.ranks() : 0));
      in_rank = std::max(in_rank, rank(branch.in)), out_rank = std::max(out_rank, rank(branch.out));
      if (branch.mlp) continue;
      before = std::max(before, branch.normed_columns());
      norms = std::max(norms, branch.normed_heads());
      o = std::max(o, branch.attention->q_size() + branch.out.ranks()), heads = std::max(heads, branch.attention->heads);
    }
  Kept room;  // without what a mixer has none of
  const auto take_some = [&](Dtype dtype, int64_t n, int64_t cols) { return cols > 0 && n > 0 ? take(dtype, n, cols) : Tensor(); };
  room.inner = take_some(type, rows, inner), room.before = take_some(type, rows, before);
  room.head_rstd = take_some(Dtype::F32, norms, rows);
  room.o = take_some(type, rows, o), room.lse = take_some(Dtype::F32, rows, heads);
  room.in_columns = take_some(type, rows, in_rank), room.out_columns = take_some(type, rows, out_rank);
  if (!shape_.trained) room.x = take(type, rows, C), room.statistics = take(Dtype::F32, 2, rows);
  const bool afters = has_branch(model_, [](const GpuBranch& branch) { return static_cast<bool>(branch.after); });
  const bool besides = has_branch(model_, [](const GpuBranch& branch) { return branch.beside; });
  if (!shape_.trained && afters) room.given = take(type, rows, C);
  if (!shape_.trained && besides && type == Dtype::F32) room.sum = take(type, rows, C);
  for (size_t l = 0; l < model_.layers.size(); ++l) {
    std::vector<Kept>& here = kept_.emplace_back();
    for (size_t b = 0; b < model_.layers[l].size(); ++b) {
      const GpuBranch& branch = model_.layers[l][b];
      Kept& kept = here.emplace_back();
      const bool shares = shape_.shares(branch);
      const auto own = [&](const Tensor& shared, Dtype dtype, int64_t cols, int64_t right = 0) {
        const Tensor all = shares ? first_columns(shared, cols + right) : take_some(dtype, rows, cols + right);
        return right > 0 ? all.col_range(0, cols) : all;
      };
      const bool trained = shape_.trained != nullptr;
      kept.x = !trained ? room.x : branch.beside ? here[b - 1].x : take(type, rows, C);
      kept.sum = kept.x;
      if (branch.beside && type == Dtype::F32) kept.sum = trained ? take(type, rows, C) : room.sum;
      kept.statistics = trained ? take(Dtype::F32, branch.before.statistics(), rows) : room.statistics;
      if (branch.after) {
        kept.given = trained ? take(type, rows, C) : room.given;
        kept.after = trained ? take(Dtype::F32, branch.after.statistics(), rows) : room.statistics;
      }
      kept.inner = own(room.inner, type, branch.in.weight.rows(), branch.mlp ? branch.in.ranks() : 0);
      kept.in_columns = own(room.in_columns, type, rank(branch.in));
      const bool beside_o = branch.attention && branch.out.ranks() > 0 && trained;
      if (!beside_o) kept.out_columns = own(room.out_columns, type, rank(branch.out));
      if (branch.mlp) continue;
      kept.o = own(room.o, type, branch.attention->q_size(), trained ? branch.out.ranks() : 0);
      if (beside_o) kept.out_columns = Tensor(kept.o).col_range(kept.o.cols(), rank(branch.out));
      kept.lse = own(room.lse, Dtype::F32, branch.attention->heads);
      if (shape_.asked.cache) kept.cache = &shape_.asked.cache->layers[l][b];
      if (branch.head_norms.empty()) continue;
      kept.before = own(room.before, type, branch.normed_columns());
      kept.head_rstd = shares ? room.head_rstd : take(Dtype::F32, branch.normed_heads(), rows);
    }
  }
  x_last_ = shape_.trained ? take(type, rows, C) : room.x;
}

// Of logits and losses.
void GpuDecoder::plan_head() {
  const Dtype type = model_.type;
  const int64_t rows = shape_.rows, C = model_.config.hidden_size, V = model_.config.vocab_size;
  const int64_t chunk = std::min(rows, shape_.trained ? kLossRows : shape_.asked.logit_rows);
  loss_x_ = take(type, chunk, C), logits_ = take(Dtype::F32, chunk, V);
  if (shape_.trained) {
    row_factors_ = memory_.take_array<float>(rows);
    d_loss_x_ = take(Dtype::F32, chunk, C);
    d_logits_ = type == Dtype::F32 && model_.config.logit_softcap == 0 ? logits_ : take(type, chunk, V);  // a cap's needs the logits
  }
  asked_rows_ = memory_.take_array<int64_t>(chunk);
  states_ = memory_.take_array<LossState>(rows);
  loss_values_ = memory_.take_array<double>(2 * rows);
  correct_ = memory_.take_array<uint8_t>(rows);
  if (memory_.dry()) return;
  loss_staging_ = GpuMemory(static_cast<size_t>(rows) * (2 * sizeof(double) + sizeof(LossState) + 1), GpuMemoryKind::pinned);
}

void GpuDecoder::plan() {
  const Dtype type = model_.type;
  const int64_t rows = shape_.rows, C = model_.config.hidden_size;
  plan_kept();
  hidden_ = take(type, rows, C);
  last_statistics_ = take(Dtype::F32, model_.final_norm.statistics(), rows);
  int64_t inner = 0, f = 0, o = 0, heads = 0, in_ranks = 0, out_ranks = 0;
  for (const auto& layer : model_.layers)
    for (const GpuBranch& branch : layer) {
      in_ranks = std::max(in_ranks, branch.in.ranks()), out_ranks = std::max(out_ranks, branch.out.ranks());
      inner = std::max(inner, branch.in.weight.rows() + branch.in.ranks());
      if (branch.mlp) f = std::max(f, branch.out.weight.cols() + branch.out.ranks());
      else o = std::max(o, branch.attention->q_size()), heads = std::max(heads, branch.attention->heads);
    }
  if (type != Dtype::F32) sum_ = take(Dtype::F32, rows, C);
  h_ = take(type, rows, C + in_ranks).col_range(0, C), y_ = take(Dtype::F32, rows, C), f_ = take(type, rows, f);
  if (const int64_t most = most_unpacked(model_); most > 0) unpacked_ = take(type, 1, most);
  plan_head();
  if (!shape_.trained) return;
  d_y_ = take(type, rows, C + out_ranks).col_range(0, C);
  d_hidden_ = take(Dtype::F32, rows, C), d_h_ = take(type, rows, C);
  if (has_branch(model_, [](const GpuBranch& branch) { return branch.beside; })) d_group_ = take(Dtype::F32, rows, C);
  d_inner_ = take(type, rows, inner), d_f_ = take(type, rows, f);
  d_o_ = take(type, rows, o), delta_ = take(Dtype::F32, rows, heads);
  int64_t in = 0, rank = 0, dora = 0;
  for (const auto& layer : model_.layers)
    for (const GpuBranch& branch : layer)
      for (const GpuSite* site : {&branch.in, &branch.out})
        if (const GpuLora* lora = shape_.trained->at(site->index)) {
          if (lora->dropout > 0) in = std::max(in, lora->a.cols());
          rank = std::max(rank, lora->rank());
          if (lora->dora()) dora = std::max(dora, lora->out);
        }
  adapter_x_ = take(type, rows, in), adapter_g_ = take(type, rows, rank);
  if (dora > 0) dora_z_ = take(type, rows, dora), dora_partial_ = memory_.take_array<double>(column_dots_room(rows, dora));
  partial_ = memory_.take_array<float>(room_of(model_, *shape_.trained, rows, true));
}

size_t GpuDecoder::room_bytes(const GpuModel& model, const GpuAdapter& adapter, int64_t most_rows) {
  return static_cast<size_t>(room_of(model, adapter, most_rows, false)) * sizeof(float);
}

void GpuDecoder::make_room_for(const GpuAdapter& adapter) {
  if (adapter.rank_columns() > shape_.asked.rank_columns)
    throw Error(ErrorKind::internal, "an adapter on the GPU is wider than its memory was planned for");
  const size_t bytes = room_bytes(model_, adapter, shape_.rows);
  if (bytes <= asked_room_.bytes()) return;
  stream_.synchronise();  // nobody uses the old one
  asked_room_ = GpuMemory();
  asked_room_ = GpuMemory(bytes);
  partial_ = static_cast<float*>(asked_room_.data());
}

size_t GpuDecoder::planned_bytes(const GpuModel& model, const Shape& shape, GpuStream& stream) {
  return GpuDecoder(model, shape, stream, GpuArena()).memory_.used();
}

size_t GpuDecoder::bytes(const Model& model, const AdapterSet& set, int64_t most_rows, Recompute recompute) {
  GpuStream none;
  const GpuModel shapes = GpuModel::shapes(model, &set);
  const GpuAdapter adapter(set, none, true);
  return planned_bytes(shapes, {most_rows, &adapter, recompute, {}}, none);
}

size_t GpuDecoder::bytes(const GpuModel& model, const GpuAskedShape& shape) {
  GpuStream none;
  return planned_bytes(model, {shape.rows, nullptr, Recompute::none, shape}, none);
}

GpuDecoder::GpuDecoder(const GpuModel& model, const Shape& shape, GpuStream& stream, GpuArena memory)
    : model_(model), shape_(shape), stream_(stream), memory_(std::move(memory)), batch_(memory_, shape.rows, shape.pages()) {
  if (stream.dry()) gemm_.emplace(true);
  plan();
}

GpuDecoder::GpuDecoder(const GpuModel& model, const GpuAdapter& adapter, int64_t most_rows, GpuStream& stream, Recompute recompute)
    : GpuDecoder(model, Shape{most_rows, &adapter, recompute, {}}, stream,
                 GpuArena(planned_bytes(model, {most_rows, &adapter, recompute, {}}, stream))) {
  gemm_.emplace();
}

GpuDecoder::GpuDecoder(const GpuModel& model, const GpuAskedShape& shape, GpuStream& stream)
    : GpuDecoder(model, Shape{shape.rows, nullptr, Recompute::none, shape}, stream,
                 GpuArena(planned_bytes(model, {shape.rows, nullptr, Recompute::none, shape}, stream))) {
  gemm_.emplace();
}

GpuDecoder GpuDecoder::shapes(const GpuModel& model, const GpuAdapter& adapter, int64_t most_rows, GpuStream& stream, Recompute recompute) {
  return {model, {most_rows, &adapter, recompute, {}}, stream, GpuArena()};
}

void GpuKvCache::lay_out(const GpuModel& model, int64_t pages, GpuArena& arena) {
  layers.clear();
  for (const auto& layer : model.layers) {
    std::vector<Rows>& here = layers.emplace_back();
    for (const GpuBranch& branch : layer) {
      Rows& rows = here.emplace_back();
      if (!branch.attention) continue;
      rows.k = arena.take(model.type, {pages * kKvPage, branch.attention->kv_size()});
      rows.v = arena.take(model.type, {pages * kKvPage, branch.attention->kv_size()});
    }
  }
}

size_t GpuKvCache::bytes(const GpuModel& model, int64_t pages) {
  GpuKvCache dry;
  dry.lay_out(model, pages, dry.memory_);
  return dry.memory_.used();
}

GpuKvCache::GpuKvCache(const GpuModel& model, int64_t pages) : memory_(bytes(model, pages)) { lay_out(model, pages, memory_); }

std::vector<Tensor> GpuKvCache::all() const {
  std::vector<Tensor> tensors;
  for (const auto& layer : layers)
    for (const Rows& rows : layer)
      if (rows.k.data) tensors.push_back(rows.k), tensors.push_back(rows.v);
  return tensors;
}

}  // namespace loraine
