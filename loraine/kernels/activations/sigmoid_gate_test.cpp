// Gates against their formulas in double, gradients by central differences; in place, mixed types, threads.
#include "loraine/kernels/activations/sigmoid_gate.h"

#include <omp.h>

#include "loraine/core/error.h"
#include "tests/support/op_check.h"

namespace loraine::sigmoid_gate_test {
namespace {

enum class Gate { elements, rows, silu };
constexpr Gate kAll[] = {Gate::elements, Gate::rows, Gate::silu};

void forward(Context& ctx, Gate kind, const Tensor& y, const Tensor& x, const Tensor& gate) {
  kind == Gate::silu ? silu_gate(ctx, y, x, gate) : sigmoid_gate(ctx, y, x, gate);
}
void backward(Context& ctx, Gate kind, const Tensor& d_x, const Tensor& d_gate, const Tensor& d_y, const Tensor& x, const Tensor& gate) {
  kind == Gate::silu ? silu_gate_backward(ctx, d_x, d_gate, d_y, x, gate) : sigmoid_gate_backward(ctx, d_x, d_gate, d_y, x, gate);
}

std::vector<double> reference(Gate kind, const std::vector<double>& x, const std::vector<double>& gate) {
  std::vector<double> y;
  const size_t per_gate = x.size() / gate.size();
  for (size_t i = 0; i < x.size(); ++i) {
    const double g = gate[i / per_gate];
    y.push_back(x[i] / (1 + std::exp(-g)) * (kind == Gate::silu ? g : 1));
  }
  return y;
}

TEST(SigmoidGate, ForwardAndBackward) {
  const int64_t T = 5, C = 37;
  for (Gate kind : kAll) {
    const int64_t G = kind == Gate::rows ? 1 : C;
    std::vector<float> x = random_floats(T * C, 1), gate = random_floats(T * G, 2, 2), r = random_floats(T * C, 3), y(x.size()),
                       d_x(x.size()), d_gate(gate.size());
    if (G > 1) gate[0] = 100, gate[1] = -100;
    Context ctx;
    forward(ctx, kind, matrix(y, T, C), matrix(x, T, C), matrix(gate, T, G));
    std::vector<double> xd = doubles(x), gd = doubles(gate);
    expect_near(y, reference(kind, xd, gd), 5e-7, "y");
    backward(ctx, kind, matrix(d_x, T, C), matrix(d_gate, T, G), matrix(r, T, C), matrix(x, T, C), matrix(gate, T, G));
    expect_near(d_x, central_differences(xd, [&] { return inner(reference(kind, xd, gd), r); }), 1e-6, "d_x");
    expect_near(d_gate, central_differences(gd, [&] { return inner(reference(kind, xd, gd), r); }), 2e-6, "d_gate");

    std::vector<float> same = x, over_y = r, over_x = x, over_gate = gate;
    forward(ctx, kind, matrix(same, T, C), matrix(same, T, C), matrix(gate, T, G));
    EXPECT_EQ(same, y);
    backward(ctx, kind, matrix(over_y, T, C), matrix(over_gate, T, G), matrix(over_y, T, C), matrix(x, T, C), matrix(over_gate, T, G));
    EXPECT_EQ(over_y, d_x);
    EXPECT_EQ(over_gate, d_gate);
    backward(ctx, kind, matrix(over_x, T, C), matrix(over_gate, T, G), matrix(r, T, C), matrix(over_x, T, C), matrix(gate, T, G));
    EXPECT_EQ(over_x, d_x);
    EXPECT_EQ(over_gate, d_gate);
  }
  std::vector<float> x(12), gate(6);
  Context ctx;
  EXPECT_THROW(sigmoid_gate(ctx, matrix(x, 3, 4), matrix(x, 3, 4), matrix(gate, 3, 2)), Error);
}

TEST(SigmoidGate, BfloatIsTheRoundedF32AndThreadsDoNotMatter) {
  const int64_t T = 400, C = 75;
  const int before = omp_get_max_threads();
  for (Gate kind : kAll) {
    const int64_t G = kind == Gate::rows ? 1 : C;
    std::vector<bf16> x = to_bf16(random_floats(T * C, 1)), gate = to_bf16(random_floats(T * G, 2)), r = to_bf16(random_floats(T * C, 3)),
                      y(x.size()), d_x(x.size()), d_gate(gate.size());
    std::vector<float> xw = to_floats(x), gw = to_floats(gate), rw = to_floats(r), yw(x.size()), dxw(x.size()), dgw(gate.size()), first;
    Context ctx;
    for (int threads : {1, 2, 3}) {
      omp_set_num_threads(threads);
      forward(ctx, kind, matrix(yw, T, C), matrix(xw, T, C), matrix(gw, T, G));
      backward(ctx, kind, matrix(dxw, T, C), matrix(dgw, T, G), matrix(rw, T, C), matrix(xw, T, C), matrix(gw, T, G));
      std::vector<float> all = yw;
      for (const std::vector<float>& more : {dxw, dgw}) all.insert(all.end(), more.begin(), more.end());
      if (first.empty()) first = all;
      EXPECT_EQ(all, first);
    }
    omp_set_num_threads(before);
    forward(ctx, kind, matrix(y, T, C), matrix(x, T, C), matrix(gw, T, G));  // mixed types
    backward(ctx, kind, matrix(d_x, T, C), matrix(d_gate, T, G), matrix(rw, T, C), matrix(x, T, C), matrix(gate, T, G));
    EXPECT_EQ(y, to_bf16(yw));
    EXPECT_EQ(d_x, to_bf16(dxw));
    EXPECT_EQ(d_gate, to_bf16(dgw));
  }
}

TEST(SigmoidGate, MultipliesRows) {
  const int64_t T = 40, C = 75;
  const int before = omp_get_max_threads();
  std::vector<float> x = random_floats(T * C, 1), gate = random_floats(T * C, 2), y(x.size()), want;
  for (size_t i = 0; i < x.size(); ++i) want.push_back(x[i] * gate[i]);
  Context ctx;
  for (int threads : {1, 2, 3}) {
    omp_set_num_threads(threads);
    multiply_rows(ctx, matrix(y, T, C), matrix(x, T, C), matrix(gate, T, C));
    EXPECT_EQ(y, want);
  }
  omp_set_num_threads(before);
  std::vector<float> same = x, over = gate;
  multiply_rows(ctx, matrix(same, T, C), matrix(same, T, C), matrix(gate, T, C));
  EXPECT_EQ(same, want);
  multiply_rows(ctx, matrix(over, T, C), matrix(x, T, C), matrix(over, T, C));
  EXPECT_EQ(over, want);
  std::vector<bf16> narrow = to_bf16(x), product(x.size());
  std::vector<float> wide = to_floats(narrow);
  multiply_rows(ctx, matrix(product, T, C), matrix(narrow, T, C), matrix(gate, T, C));
  multiply_rows(ctx, matrix(y, T, C), matrix(wide, T, C), matrix(gate, T, C));
  EXPECT_EQ(product, to_bf16(y));
}

}  // namespace
}  // namespace loraine::sigmoid_gate_test
