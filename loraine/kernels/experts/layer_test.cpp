// The ops of a mixture-of-experts layer one after the other, as a model calls them: y and the gradient of x, which flows through the
// experts and through their weights, against the layer in double.
#include <gtest/gtest.h>

#include <numeric>

#include "loraine/kernels/activations/swiglu.h"
#include "loraine/kernels/experts/combine.h"
#include "loraine/kernels/experts/grouped_product.h"
#include "loraine/kernels/experts/router.h"
#include "loraine/kernels/products/matmul.h"
#include "tests/support/op_check.h"

namespace loraine::layer_test {
namespace {

constexpr int64_t kT = 40, kH = 24, kI = 16, kE = 6, kK = 2;

struct Layer {
  std::vector<float> router = random_floats(kE * kH, 1, 0.3f), gate_up = random_floats(kE * 2 * kI * kH, 2, 0.2f),
                     down = random_floats(kE * kH * kI, 3, 0.3f);
};

double dot(const float* w, const double* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(w[i]) * x[i];
  return sum;
}

std::vector<double> reference(const Layer& layer, const std::vector<double>& x) {
  std::vector<double> y;
  for (int64_t t = 0; t < kT; ++t) {
    const double* row = x.data() + t * kH;
    std::vector<double> p, out(kH);
    for (int64_t e = 0; e < kE; ++e) p.push_back(std::exp(dot(layer.router.data() + e * kH, row, kH)));
    std::vector<size_t> order(kE);
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] > p[b]; });
    double sum = 0;
    for (int64_t k = 0; k < kK; ++k) sum += p[order[static_cast<size_t>(k)]];
    for (int64_t k = 0; k < kK; ++k) {
      const auto e = static_cast<int64_t>(order[static_cast<size_t>(k)]);
      std::vector<double> h;
      for (int64_t i = 0; i < kI; ++i) {
        const float* gate = layer.gate_up.data() + (e * 2 * kI + i) * kH;
        const double g = dot(gate, row, kH);
        h.push_back(g / (1 + std::exp(-g)) * dot(gate + kI * kH, row, kH));
      }
      for (int64_t c = 0; c < kH; ++c)
        out[static_cast<size_t>(c)] += p[static_cast<size_t>(e)] / sum * dot(layer.down.data() + (e * kH + c) * kI, h.data(), kI);
    }
    y.insert(y.end(), out.begin(), out.end());
  }
  return y;
}

TEST(ExpertLayer, ForwardAndBackward) {
  Layer layer;
  constexpr int64_t R = kT * kK;
  std::vector<float> x = random_floats(kT * kH, 4), d_y = random_floats(kT * kH, 5);
  Arena arena(1 << 20);
  auto room = [&](int64_t rows, int64_t cols) { return arena.take(Dtype::F32, {rows, cols}); };
  const Tensor tx = matrix(x, kT, kH), router = matrix(layer.router, kE, kH), logits = room(kT, kE), weights = room(kT, kK),
               chosen = arena.take(Dtype::I32, {kT, kK}), in = room(R, kH), gate_up = room(R, 2 * kI), h = room(R, kI), out = room(R, kH);
  const ExpertOrder order = take_expert_order(arena, kT, kK, kE);
  std::vector<Tensor> ups, downs;
  for (int64_t e = 0; e < kE; ++e) {
    ups.push_back(expert_matrix(Tensor(layer.gate_up.data(), Dtype::F32, {kE, 2 * kI, kH}), e));
    downs.push_back(expert_matrix(Tensor(layer.down.data(), Dtype::F32, {kE, kH, kI}), e));
  }
  RouterShape shape;
  shape.experts = kE, shape.per_token = kK, shape.normalise = true;
  std::vector<float> y(d_y.size()), d_x(x.size());
  Context ctx;
  matmul_nt(ctx, logits, tx, router);
  route(ctx, chosen, weights, logits, shape);
  order_by_expert(ctx, order, chosen);
  gather_tokens(ctx, in, tx, order);
  grouped_nt(ctx, gate_up, in, ups, order);
  swiglu(ctx, h, gate_up);
  grouped_nt(ctx, out, h, downs, order);
  combine_experts(ctx, matrix(y, kT, kH), out, order, &weights, false);
  std::vector<double> xd = doubles(x);
  expect_near(y, reference(layer, xd), 2e-6, "y");

  const Tensor dx = matrix(d_x, kT, kH), d_weights = room(kT, kK), d_logits = room(kT, kE), d_h = room(R, kI);
  combine_experts_backward(ctx, out, d_weights, matrix(d_y, kT, kH), out, order, weights);
  grouped_nn(ctx, d_h, out, downs, order);
  swiglu_backward(ctx, gate_up, d_h, gate_up);
  grouped_nn(ctx, in, gate_up, ups, order);
  gather_tokens_backward(ctx, dx, in, order, false);
  route_backward(ctx, d_logits, d_weights, chosen, logits, shape);
  matmul_nn(ctx, dx, d_logits, router, 1, 1);
  expect_near(d_x, central_differences(xd, [&] { return inner(reference(layer, xd), d_y); }), 5e-6, "d_x");
}

}  // namespace
}  // namespace loraine::layer_test
