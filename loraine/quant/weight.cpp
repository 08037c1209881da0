// Products with a frozen weight, all its parts at once; called by model/linear and the adapters.
#include "loraine/quant/weight.h"

#include <fmt/format.h>

#include <span>

#include "loraine/core/error.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/kernels/products/packed_int8_products.h"
#include "loraine/kernels/products/row_dots.h"
#include "loraine/kernels/rows/elementwise.h"
#include "loraine/quant/int8_weight.h"

namespace loraine {

namespace {
// The tensors of a weight's parts, side by side.
class Parts {
 public:
  explicit Parts(const Weight& weight) : count_(weight.parts.size()) {
    if (count_ > kMostParts) throw Error(ErrorKind::internal, fmt::format("a weight has {} parts, at most {}", count_, kMostParts));
    for (size_t i = 0; i < count_; ++i) tensors_[i] = weight.parts[i].weight;
  }
  std::span<const Tensor> span() const { return {tensors_, count_}; }

 private:
  size_t count_;
  Tensor tensors_[kMostParts];
};

void check(const char* op, const Weight& weight, const Tensor& out, const Tensor& in) {
  if (weight.parts.empty()) throw Error(ErrorKind::internal, fmt::format("{}: the weight has no parts", op));
  for (const WeightPart& part : weight.parts) {
    if (part.weight.rank == 2 && part.weight.shape[1] == weight.in()) continue;
    throw Error(ErrorKind::internal,
                fmt::format("{}: {} has shape {}, expected [out, {}]", op, part.name, part.weight.shape_text(), weight.in()));
  }
  if (out.rank != 2 || in.rank != 2 || out.rows() != in.rows() || out.cols() != weight.out() || in.cols() != weight.in()) {
    throw Error(ErrorKind::internal, fmt::format("{}: {} has shape [{}, {}], but the activations are {} and {}", op, weight.parts[0].name,
                                                 weight.out(), weight.in(), in.shape_text(), out.shape_text()));
  }
}
}  // namespace

int64_t Weight::out() const {
  int64_t sum = 0;
  for (const WeightPart& part : parts) sum += part.weight.rows();
  return sum;
}

namespace {
void multiply(Context& ctx, const Tensor& y, const Weight& weight, std::span<const Tensor> parts, const Tensor& x) {
  if (weight.integer_products && has_integer_blocks(weight.parts[0].weight.dtype)) packed_int8_matmul(ctx, y, x, parts);
  else if (weight.integer_products) multiply_int8(ctx, y, parts, x);
  else matmul_nt_parts(ctx, y, x, parts);
}

void multiply_back(Context& ctx, const Tensor& d_x, const Weight& weight, std::span<const Tensor> parts, const Tensor& d_y,
                   bool accumulate) {
  if (weight.integer_products && !has_integer_blocks(weight.parts[0].weight.dtype))
    return multiply_int8_backward(ctx, d_x, parts, d_y, accumulate);
  matmul_nn_parts(ctx, d_x, d_y, parts, accumulate ? 1.0f : 0.0f);
}
}  // namespace

void multiply_part(Context& ctx, const Tensor& y, const Weight& weight, size_t part, const Tensor& x, bool with_bias) {
  const WeightPart& one = weight.parts.at(part);
  multiply(ctx, y, weight, {&one.weight, 1}, x);
  if (with_bias && one.bias) add_bias(ctx, y, one.bias);
}

void multiply_part_backward(Context& ctx, const Tensor& d_x, const Weight& weight, size_t part, const Tensor& d_y, bool accumulate) {
  multiply_back(ctx, d_x, weight, {&weight.parts.at(part).weight, 1}, d_y, accumulate);
}

void multiply_weight(Context& ctx, const Tensor& y, const Weight& weight, const Tensor& x, bool with_bias) {
  check("multiply_weight", weight, y, x);
  multiply(ctx, y, weight, Parts(weight).span(), x);
  if (!with_bias) return;
  int64_t first = 0;
  for (const WeightPart& part : weight.parts) {
    if (part.bias) add_bias(ctx, y.col_range(first, part.weight.rows()), part.bias);
    first += part.weight.rows();
  }
}

void multiply_weight_backward(Context& ctx, const Tensor& d_x, const Weight& weight, const Tensor& d_y, bool accumulate) {
  check("multiply_weight_backward", weight, d_y, d_x);
  multiply_back(ctx, d_x, weight, Parts(weight).span(), d_y, accumulate);
}

void quantise_part(WeightPart& part, Quantisation how, Dtype values) {
  QuantisedWeight q = quantise(part.weight, how, values);
  part.weight = q.weight;
  part.owned = std::move(q.memory);
  part.quant_state = std::move(q.state);
}

Tensor weight_rows(const WeightPart& part, int64_t first, int64_t count, const Tensor& room) {
  const Tensor rows = part.weight.row_range(first, count);
  if (rows.dtype == Dtype::F32) return rows;
  if (room.dtype != Dtype::F32 || room.rows() < count || room.cols() != rows.cols())
    throw Error(ErrorKind::internal, fmt::format("weight_rows: {} is no room for [{}, {}]", room.shape_text(), count, rows.cols()));
  const Tensor out = room.row_range(0, count);
  widen_row(out.f32(), rows);
  return out;
}

}  // namespace loraine
