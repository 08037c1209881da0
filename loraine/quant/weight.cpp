// Products with a frozen weight, one part after the other; called by model/linear and the adapters.
#include "loraine/quant/weight.h"

#include <fmt/format.h>

#include <span>

#include "loraine/core/error.h"
#include "loraine/kernels/elementwise.h"
#include "loraine/kernels/matmul.h"

namespace loraine {

namespace {
constexpr size_t kMaxParts = 4;

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

void multiply_weight(Context& ctx, const Tensor& y, const Weight& weight, const Tensor& x) {
  check("multiply_weight", weight, y, x);
  int64_t first = 0;
  bool few = x.rows() > 0 && x.rows() <= kFewRows && weight.parts.size() <= kMaxParts;
  if (few) {
    Tensor parts[kMaxParts];
    for (size_t i = 0; i < weight.parts.size(); ++i) parts[i] = weight.parts[i].weight;
    matmul_few_rows(ctx, y, x, std::span(parts, weight.parts.size()));
  }
  for (const WeightPart& part : weight.parts) {
    Tensor columns = y.col_range(first, part.weight.rows());
    if (!few) matmul_nt(ctx, columns, x, part.weight);
    if (part.bias) add_bias(ctx, columns, part.bias);
    first += part.weight.rows();
  }
}

void multiply_weight_backward(Context& ctx, const Tensor& d_x, const Weight& weight, const Tensor& d_y, bool accumulate) {
  check("multiply_weight_backward", weight, d_y, d_x);
  int64_t first = 0;
  for (const WeightPart& part : weight.parts) {
    bool add = accumulate || first > 0;
    matmul_nn(ctx, d_x, d_y.col_range(first, part.weight.rows()), part.weight, 1, add ? 1.0f : 0.0f);
    first += part.weight.rows();
  }
}

}  // namespace loraine
