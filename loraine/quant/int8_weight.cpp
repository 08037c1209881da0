// Rounding of weights and of what they are multiplied with.
#include "loraine/quant/int8_weight.h"

#include <fmt/format.h>

#include <algorithm>

#include "loraine/core/error.h"
#include "loraine/kernels/int8_products.h"
#include "loraine/kernels/matmul.h"

namespace loraine {
namespace {

// Rounded rows of this thread, until its next call: [rows, cols] and their scales.
struct Rounded {
  Tensor q;
  float* scales;
  Int8Rows view() const { return {q, scales}; }
};
Rounded room(int64_t rows, int64_t cols) {
  thread_local Buffer memory;
  const size_t scales = static_cast<size_t>(rows) * sizeof(float), bytes = scales + static_cast<size_t>(rows * cols);
  if (memory.bytes() < bytes) memory = Buffer(bytes);
  return {Tensor(static_cast<char*>(memory.data()) + scales, Dtype::I8, {rows, cols}), static_cast<float*>(memory.data())};
}

}  // namespace

void to_int8(Context& ctx, WeightPart& part) {
  const int64_t out = part.weight.rows(), in = part.weight.cols();
  Buffer memory(static_cast<size_t>(out * in)), scales(static_cast<size_t>(out) * sizeof(float));
  const Tensor q(memory.data(), Dtype::I8, {out, in});
  quantise_rows(ctx, q, static_cast<float*>(scales.data()), part.weight);
  part.weight = q;
  part.owned = std::move(memory);
  part.owned_scales = std::move(scales);
  part.row_scales = static_cast<const float*>(part.owned_scales.data());
}

bool is_int8(const Weight& weight) {
  const auto rounded = [](const WeightPart& part) { return part.row_scales != nullptr; };
  const bool any = std::ranges::any_of(weight.parts, rounded);
  if (any && !std::ranges::all_of(weight.parts, rounded))
    throw Error(ErrorKind::internal, fmt::format("{}: some parts of the weight are int8 and some are not", weight.parts[0].name));
  return any;
}

void multiply_int8(Context& ctx, const Tensor& y, const Weight& weight, const Tensor& x) {
  const Rounded rows = room(x.rows(), x.cols());
  quantise_rows(ctx, rows.q, rows.scales, x);
  Int8Rows parts[kMostParts];
  for (size_t i = 0; i < weight.parts.size(); ++i) parts[i] = {weight.parts[i].weight, weight.parts[i].row_scales};
  int8_matmul_nt(ctx, y, rows.view(), std::span(parts, weight.parts.size()));
}

void multiply_int8_backward(Context& ctx, const Tensor& d_x, const Weight& weight, const Tensor& d_y, bool accumulate) {
  thread_local std::vector<float> scales;
  scales.clear();
  Tensor parts[kMostParts];
  for (size_t i = 0; i < weight.parts.size(); ++i) {
    const WeightPart& part = weight.parts[i];
    parts[i] = part.weight;
    scales.insert(scales.end(), part.row_scales, part.row_scales + part.weight.rows());
  }
  const Rounded rows = room(d_y.rows(), d_y.cols());
  quantise_rows(ctx, rows.q, rows.scales, d_y, scales.data());
  int8_matmul_nn(ctx, d_x, rows.view(), std::span(parts, weight.parts.size()), accumulate ? 1.0f : 0.0f);
}

size_t int8_weight_scratch(int64_t rows, int64_t widest) {
  return static_cast<size_t>(rows * widest) + static_cast<size_t>(rows) * sizeof(float) +
         static_cast<size_t>(thread_count()) * int8_scratch_bytes(widest);
}

}  // namespace loraine
