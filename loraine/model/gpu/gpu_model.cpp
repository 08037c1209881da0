// Places first, once over a dry arena; then the values, by pieces of pinned memory.
#include "loraine/model/gpu/gpu_model.h"

#include <algorithm>
#include <cstring>

#include "loraine/kernels/rows/scaled_cuda.h"

namespace loraine {

namespace {

constexpr int64_t kStagingBytes = 8 << 20;

float stored_value(const Tensor& t, int64_t at) {
  if (t.dtype == Dtype::F32) return static_cast<const float*>(t.data)[at];
  if (t.dtype == Dtype::BF16) return bf16_to_f32(static_cast<const bf16*>(t.data)[at]);
  return f16_to_f32(static_cast<const f16*>(t.data)[at]);
}

// Rows [first, first + count) of `from` in that type, with zeros up to the width.
void convert_to(void* out, Dtype type, int64_t width, const Tensor& from, int64_t first, int64_t count) {
  if (type == Dtype::U8) {
    std::memcpy(out, from.row_range(first, count).data, static_cast<size_t>(count));
    return;
  }
  for (int64_t r = 0; r < count; ++r)
    for (int64_t c = 0; c < width; ++c) {
      const float value = from.data && c < from.cols() ? stored_value(from, (first + r) * from.row_stride + c) : 0.0f;
      if (type == Dtype::BF16) static_cast<bf16*>(out)[r * width + c] = f32_to_bf16(value);
      else static_cast<float*>(out)[r * width + c] = value;
    }
}

Tensor as_row(const float* values, int64_t n) { return {const_cast<float*>(values), Dtype::F32, {1, n}}; }

}  // namespace

int64_t GpuBranch::normed_columns() const {
  int64_t columns = 0;
  for (const HeadNormGroup& one : head_norms) columns = std::max(columns, one.first + one.count * one.width);
  return columns;
}

int64_t GpuBranch::normed_heads() const {
  int64_t heads = 0;
  for (const HeadNormGroup& one : head_norms) heads += one.count;
  return heads;
}

GpuSite GpuModel::site(const Site& site, GpuArena& arena, std::vector<GpuPiece>& pieces) const {
  GpuSite out;
  out.index = site.index;
  const Weight& weight = site.weight;
  const bool packed = std::ranges::any_of(weight.parts, [](const WeightPart& part) { return is_packed(part.weight.dtype); });
  const int64_t rank = joined_ && !packed ? joined_ranks(GpuAdapter::rank_at(*joined_, site.index)) : 0;
  if (packed) {
    out.weight = Tensor(nullptr, type, {weight.out(), weight.in()});
  } else if (rank > 0) {
    out.joined = arena.take(type, {weight.out() + rank, weight.in() + rank});
    out.weight = out.joined.row_range(0, weight.out()).col_range(0, weight.in());
    const Tensor below = out.joined.row_range(weight.out(), rank);
    pieces.push_back({Tensor(nullptr, Dtype::F32, {rank, below.cols()}), below});
  } else {
    out.weight = arena.take(type, {weight.out(), weight.in()});
  }
  bool biased = false;
  for (const WeightPart& part : weight.parts) biased = biased || part.bias;
  const Tensor bias = biased ? arena.take(Dtype::F32, {1, weight.out()}) : Tensor();
  int64_t first = 0;
  for (const WeightPart& part : weight.parts) {
    const int64_t rows = part.weight.rows();
    if (is_packed(part.weight.dtype)) {
      out.packed.push_back(packed_part(part.weight, first, arena, pieces));
    } else {
      const Tensor to = packed ? arena.take(type, {rows, weight.in()}) : out.weight.row_range(first, rows);
      pieces.push_back({part.weight, to, rank > 0 ? to.row_stride : 0});
      if (packed) out.packed.push_back({first, to, {}, 0});
    }
    if (biased) pieces.push_back({as_row(part.bias, rows), bias.col_range(first, rows)});
    first += rows;
  }
  out.bias = biased ? static_cast<const float*>(bias.data) : nullptr;
  return out;
}

GpuNorm GpuModel::norm(const NormConfig& norm, const Vector& weight, const Vector& bias, GpuArena& arena,
                       std::vector<GpuPiece>& pieces) const {
  GpuNorm out{{}, {}, norm.eps, norm.offset, norm.kind};
  const auto put = [&](Tensor& to, const Vector& from) {
    if (from.values.empty()) return;
    const auto n = static_cast<int64_t>(from.values.size());
    to = arena.take(Dtype::F32, {n});
    pieces.push_back({as_row(from.values.data(), n), Tensor(to.data, Dtype::F32, {1, n})});
  };
  put(out.weight, weight), put(out.bias, bias);
  return out;
}

GpuBranch GpuModel::branch(Branch& branch, const BranchConfig& config, GpuArena& arena, std::vector<GpuPiece>& pieces) const {
  GpuBranch out;
  out.before = norm(branch.before.config, branch.before.weight, branch.before.bias, arena, pieces);
  out.after = norm(branch.after.config, branch.after.weight, branch.after.bias, arena, pieces);
  out.scale = config.scale, out.beside = config.beside;
  const Parts parts = branch.mixer->parts();
  out.in = site(*parts.sites.at(0), arena, pieces);
  out.out = site(*parts.sites.at(1), arena, pieces);
  out.mlp = dynamic_cast<const MlpConfig*>(config.mixer.get());
  out.attention = dynamic_cast<const AttentionConfig*>(config.mixer.get());
  if (!out.attention) return out;
  const AttentionConfig& c = *out.attention;
  if (c.rope) {
    const std::vector<float>& frequencies = c.rope->frequencies;
    const auto n = static_cast<int64_t>(frequencies.size());
    const Tensor to = arena.take(Dtype::F32, {1, n});
    pieces.push_back({as_row(frequencies.data(), n), to});
    out.frequencies = static_cast<const float*>(to.data);
  }
  size_t next = 0;  // of the norms' weights, which the mixer lists in the order q, k, v
  const auto add = [&](const NormConfig& norm_config, int64_t first, int64_t heads) {
    if (norm_config.kind == NormKind::none) return;
    const Vector none;
    const Vector& weight = norm_config.has_weight ? *parts.vectors.at(next++) : none;  // the model's own, which pieces point to
    const GpuNorm one = norm(norm_config, weight, {}, arena, pieces);
    const bool whole = c.head_norms == HeadNorms::whole;
    out.head_norms.push_back({first, whole ? 1 : heads, whole ? heads * c.head_dim : c.head_dim, static_cast<const float*>(one.weight.data),
                              one.eps, one.offset});
  };
  add(c.q_norm, 0, c.heads);
  add(c.k_norm, c.q_size(), c.kv_heads);
  add(c.v_norm, c.q_size() + c.kv_size(), c.kv_heads);
  return out;
}

std::vector<GpuPiece> GpuModel::lay_out(const Model& model, GpuArena& arena) {
  std::vector<GpuPiece> pieces;
  layers.clear();
  head = site(model.head, arena, pieces);
  if (model.head.weight.parts.at(0).weight.data == model.embedding.data) embedding = head.weight;
  else {
    embedding = arena.take(type, {model.embedding.rows(), model.embedding.cols()});
    pieces.push_back({model.embedding, embedding});
  }
  final_norm = norm(model.final_norm->config, model.final_norm->weight, model.final_norm->bias, arena, pieces);
  for (size_t layer = 0; layer < model.layers.size(); ++layer) {
    std::vector<GpuBranch>& here = layers.emplace_back();
    std::vector<Branch>& branches = model.layers[layer]->branches;
    for (size_t b = 0; b < branches.size(); ++b) here.push_back(branch(branches[b], config.layers[layer].branches.at(b), arena, pieces));
  }
  return pieces;
}

GpuModel GpuModel::shapes(const Model& model, const AdapterSet* joined) {
  GpuModel out(model, joined);
  out.lay_out(model, out.memory_);
  return out;
}

GpuModel::GpuModel(const Model& model, GpuStream& stream, const AdapterSet* joined) : GpuModel(model, joined) {
  memory_ = GpuArena(shapes(model, joined).bytes());
  const std::vector<GpuPiece> pieces = lay_out(model, memory_);
  int64_t widest = 0;
  for (const GpuPiece& piece : pieces) widest = std::max(widest, piece.row() * static_cast<int64_t>(size_of(piece.to.dtype)));
  const GpuMemory staging(static_cast<size_t>(std::max(kStagingBytes, widest)), GpuMemoryKind::pinned);
  for (const GpuPiece& piece : pieces) {
    const int64_t row_bytes = piece.row() * static_cast<int64_t>(size_of(piece.to.dtype));
    const int64_t most = std::max<int64_t>(1, static_cast<int64_t>(staging.bytes()) / std::max<int64_t>(1, row_bytes));
    for (int64_t first = 0; first < piece.to.rows(); first += most) {
      const int64_t count = std::min(most, piece.to.rows() - first);
      convert_to(staging.data(), piece.to.dtype, piece.row(), piece.from, first, count);
      stream.copy(piece.to.row_range(first, count).data, staging.data(), static_cast<size_t>(count * row_bytes));
      stream.synchronise();  // before the staging memory takes the next rows
    }
  }
}

void GpuModel::join(GpuStream& stream, const GpuAdapter& adapter) const {
  for (const GpuAdapter::Place& place : adapter.places())
    if (const std::optional<Copy> copy = copy_of(adapter, place))
      scale_cuda(stream, copy->at, Tensor(adapter.data(GpuAdapter::kValues) + place.offset, Dtype::F32, {copy->at.rows(), copy->at.cols()}),
                 copy->scale);
}

std::optional<GpuModel::Copy> GpuModel::copy_of(const GpuAdapter& adapter, const GpuAdapter::Place& place) const {
  for (const auto& layer : layers)
    for (const GpuBranch& branch : layer)
      for (const GpuSite* site : {&branch.in, &branch.out}) {
        if (site->index != place.site || site->ranks() == 0) continue;
        const GpuLoraPart& part = adapter.at(place.site)->parts.at(place.part);
        if (place.is_b) return Copy{site->b().row_range(part.offset, part.out).col_range(part.rank_offset, part.r), part.scale};
        return Copy{site->a().row_range(part.rank_offset, part.r), 1};
      }
  return std::nullopt;
}

}  // namespace loraine
