// A pass over the base weights' bits.
#include "loraine/model/finite.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>

#include "loraine/io/files/mapped_file.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/products/packed_rows.h"

namespace loraine {
namespace {

// An exponent of all ones is NaN or infinity; the sum over a block is cheap to vectorise.
bool finite_bits16(const uint16_t* x, int64_t n, uint16_t exponent) {
  int bad = 0;
  for (int64_t i = 0; i < n; ++i) bad |= (x[i] & exponent) == exponent;
  return !bad;
}

bool finite_bits32(const uint32_t* x, int64_t n) {
  int bad = 0;
  for (int64_t i = 0; i < n; ++i) bad |= (x[i] & 0x7f800000u) == 0x7f800000u;
  return !bad;
}

bool finite_packed(const Tensor& t) {
  std::vector<uint32_t> row(static_cast<size_t>(t.cols()));
  for (int64_t r = 0; r < t.rows(); ++r) {
    unpack_row(reinterpret_cast<float*>(row.data()), t.row_range(r, 1));
    if (!finite_bits32(row.data(), t.cols())) return false;
  }
  return true;
}

bool finite(const Tensor& t) {
  if (is_packed(t.dtype)) return finite_packed(t);
  if (t.dtype == Dtype::F32) return finite_bits32(static_cast<const uint32_t*>(t.data), t.numel());
  return finite_bits16(static_cast<const uint16_t*>(t.data), t.numel(), t.dtype == Dtype::BF16 ? 0x7f80 : 0x7c00);
}

// A matrix by pieces of about 4 MiB; `release`: of a mapped file, whose pages are let go.
bool finite(const Tensor& matrix, bool release) {
  constexpr int64_t kPieceElements = 1 << 20;
  const int64_t rows = std::max<int64_t>(1, kPieceElements / std::max<int64_t>(1, matrix.cols()));
  std::atomic<bool> all = true;
  parallel_for((matrix.rows() + rows - 1) / rows, [&](int64_t i) {
    if (!all) return;
    const Tensor piece = matrix.row_range(i * rows, std::min(rows, matrix.rows() - i * rows));
    if (!finite(piece)) all = false;
    if (release) release_pages(piece.data, piece.bytes());
  });
  return all;
}

bool finite(const float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    if (!std::isfinite(x[i])) return false;
  return true;
}
bool finite(const std::vector<float>& x) { return finite(x.data(), static_cast<int64_t>(x.size())); }

std::string first_not_finite(const Model& model) {
  if (!finite(model.embedding, model.read_once && model.embedding_memory.bytes() == 0)) return model.config.names.embedding + ".weight";
  for (const Weight* site : model.sites())
    for (const WeightPart& part : site->parts) {
      if (part.weight.data == model.embedding.data) continue;
      if (!finite(part.weight, model.read_once && part.owned.bytes() == 0)) return part.name + ".weight";
      if (part.bias && !finite(part.bias, part.weight.rows())) return part.name + ".bias";
    }
  for (const ExpertWeights* experts : model.experts())
    for (const ExpertStack& stack : experts->stacks)
      for (const WeightPart& part : stack.parts)
        if (!finite(part.weight, part.owned.bytes() == 0)) return part.name;  // many are used seldom, or never
  for (const Vector* vector : model.vectors())
    if (!finite(vector->values)) return vector->name;
  return "";
}

}  // namespace

std::string not_finite_text(const Model& model) {
  const std::string name = first_not_finite(model);
  return name.empty() ? "" : fmt::format("{}: {} holds values that are not finite numbers", model.path, name);
}

}  // namespace loraine
