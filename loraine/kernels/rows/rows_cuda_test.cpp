// Small ops on the GPU: their bits are those of the CPU's.
#include "loraine/kernels/rows/rows_cuda.h"

#include <cmath>
#include <limits>

#include "loraine/kernels/rows/elementwise.h"
#include "loraine/kernels/training/dense_gradients.h"
#include "loraine/kernels/training/noise.h"
#include "tests/support/gpu_check.h"

namespace loraine::rows_cuda_test {
namespace {

constexpr Dtype kTypes[] = {Dtype::F32, Dtype::BF16};

struct RowsCase {
  int64_t T, C, pad;
};
const RowsCase kCases[] = {{3, 64, 8}, {2, 2056, 0}, {4, 37, 3}};

TEST(RowsCuda, SumsAndConversions) {
  for (const RowsCase& c : kCases)
    for (Dtype of_y : kTypes)
      for (Dtype of_a : kTypes)
        for (Dtype of_b : kTypes) {
          const std::vector<float> a = as_stored(random_floats(c.T * c.C, 1), of_a), b = as_stored(random_floats(c.T * c.C, 2), of_b);
          std::vector<float> sum(a.size());
          for (size_t i = 0; i < a.size(); ++i) sum[i] = a[i] + b[i];
          DeviceMatrix ga(of_a, c.T, c.C, a, c.pad), gb(of_b, c.T, c.C, b, c.pad), gy(of_y, c.T, c.C, {}, c.pad);
          EXPECT_EQ(in_all_orders([&](GpuStream& s) {
                      add_cuda(s, gy.tensor(), ga.tensor(), gb.tensor());
                      return gy.get(s);
                    }),
                    as_stored(sum, of_y));
          EXPECT_EQ(in_all_orders([&](GpuStream& s) {
                      convert_rows_cuda(s, gy.tensor(), ga.tensor());
                      return gy.get(s);
                    }),
                    as_stored(a, of_y));
        }
}

TEST(RowsCuda, Bias) {
  for (const RowsCase& c : kCases)
    for (Dtype type : kTypes) {
      std::vector<float> y = as_stored(random_floats(c.T * c.C, 1), type), want = y;
      const std::vector<float> bias = random_floats(c.C, 2);
      for (size_t i = 0; i < y.size(); ++i) want[i] += bias[i % bias.size()];
      DeviceMatrix gy(type, c.T, c.C, y, c.pad);
      DeviceArray<float> gb(bias);
      EXPECT_EQ(in_all_orders([&](GpuStream& s) {
                  gy.reset(s);
                  add_bias_cuda(s, gy.tensor(), gb.data());
                  return gy.get(s);
                }),
                as_stored(want, type));
    }
}

TEST(RowsCuda, EmbeddingGatherAndPut) {
  const int64_t V = 7;
  for (const RowsCase& c : kCases) {
    const std::vector<int32_t> tokens = {6, 0, 6, 3};
    const std::vector<int64_t> rows = {5, 2, 6, 0};
    const int64_t T = 4;
    const std::vector<float> table = random_floats(V * c.C, 1), x = random_floats(T * c.C, 2);
    DeviceArray<int32_t> gt(tokens);
    DeviceArray<int64_t> gr(rows);
    auto row_of = [&](const std::vector<float>& all, int64_t r) {
      return std::vector<float>(all.begin() + r * c.C, all.begin() + (r + 1) * c.C);
    };
    for (Dtype of_y : kTypes)
      for (Dtype of_table : kTypes) {
        const std::vector<float> held = as_stored(table, of_table);
        std::vector<float> want;
        for (int32_t token : tokens) want = joined(want, row_of(held, token));
        DeviceMatrix g(of_table, V, c.C, held, c.pad), gy(of_y, T, c.C, {}, c.pad);
        EXPECT_EQ(in_all_orders([&](GpuStream& s) {
                    embedding_cuda(s, gy.tensor(), g.tensor(), gt.data());
                    return gy.get(s);
                  }),
                  as_stored(want, of_y));
      }
    for (Dtype type : kTypes) {
      const std::vector<float> held = as_stored(table, type), put = as_stored(x, type);
      std::vector<float> want, after = held;
      for (size_t i = 0; i < rows.size(); ++i) {
        want = joined(want, row_of(held, rows[i]));
        std::copy_n(put.begin() + static_cast<int64_t>(i) * c.C, c.C, after.begin() + rows[i] * c.C);
      }
      DeviceMatrix g(type, V, c.C, held, c.pad), gx(type, T, c.C, put, c.pad), gy(type, T, c.C);
      EXPECT_EQ(in_all_orders([&](GpuStream& s) {
                  g.reset(s);
                  gather_rows_cuda(s, gy.tensor(), g.tensor(), gr.data());
                  put_rows_cuda(s, g.tensor(), gx.tensor(), gr.data());
                  return joined(gy.get(s), g.get(s));
                }),
                joined(want, after));
    }
  }
}

TEST(RowsCuda, EmbeddingOfHalves) {
  const int64_t V = 5, C = 21;
  const std::vector<float> table = random_floats(V * C, 1);
  std::vector<f16> halves;
  for (float x : table) halves.push_back(f32_to_f16(x));
  const std::vector<int32_t> tokens = {4, 1, 1};
  DeviceArray<f16> gh(halves);
  DeviceArray<int32_t> gt(tokens);
  DeviceMatrix gy(Dtype::F32, 3, C);
  const std::vector<float> y = in_all_orders([&](GpuStream& s) {
    embedding_cuda(s, gy.tensor(), Tensor(gh.data(), Dtype::F16, {V, C}), gt.data());
    return gy.get(s);
  });
  for (size_t i = 0; i < y.size(); ++i) EXPECT_EQ(y[i], f16_to_f32(halves[static_cast<size_t>(tokens[i / C]) * C + i % C]));
}

TEST(RowsCuda, EmbeddingGradientHasTheBitsOfTheCpu) {
  const int64_t V = 6;
  const std::vector<int32_t> tokens = {0, 4, 4, 2, 0, 4, 1, 1, 4};
  const int64_t T = static_cast<int64_t>(tokens.size());
  const RowsByToken groups = rows_by_token(tokens);
  EXPECT_EQ(groups.tokens, (std::vector<int32_t>{0, 4, 2, 1}));
  EXPECT_EQ(groups.starts, (std::vector<int32_t>{0, 2, 6, 7, 9}));
  EXPECT_EQ(groups.rows, (std::vector<int32_t>{0, 4, 1, 2, 5, 8, 3, 6, 7}));
  EXPECT_EQ(rows_by_token({}).starts, std::vector<int32_t>{0});
  DeviceArray<int32_t> gt(groups.tokens), gs(groups.starts), gr(groups.rows);
  for (const RowsCase& c : kCases) {
    std::vector<float> d_y = random_floats(T * c.C, 1), table = random_floats(V * c.C, 2);
    DeviceMatrix gd(Dtype::F32, T, c.C, d_y, c.pad), g(Dtype::F32, V, c.C, table, c.pad);
    Context ctx;
    embedding_gradient(ctx, matrix(table, V, c.C), matrix(d_y, T, c.C), tokens);
    EXPECT_EQ(in_all_orders([&](GpuStream& s) {
                g.reset(s);
                embedding_gradient_cuda(s, g.tensor(), gd.tensor(), gt.data(), gs.data(), gr.data(),
                                        static_cast<int64_t>(groups.tokens.size()));
                return g.get(s);
              }),
              table);
  }
}

TEST(RowsCuda, DropoutHasTheBitsOfTheCpu) {
  DeviceArray<DropoutStep> step(std::vector<DropoutStep>{{42, 7}});
  Context ctx;
  ctx.seed = 42, ctx.step = 7;
  for (const RowsCase& c : kCases)
    for (Dtype type : kTypes)
      for (float p : {0.0f, 0.3f}) {
        std::vector<float> x = as_stored(random_floats(c.T * c.C, 1), type), want(x.size());
        dropout(ctx, matrix(want, c.T, c.C), matrix(x, c.T, c.C), p, 11);
        DeviceMatrix gx(type, c.T, c.C, x, c.pad), gy(type, c.T, c.C, {}, c.pad);
        EXPECT_EQ(in_all_orders([&](GpuStream& s) {
                    dropout_cuda(s, gy.tensor(), gx.tensor(), p, step.data(), 11);
                    return gy.get(s);
                  }),
                  as_stored(want, type));
      }
}

TEST(RowsCuda, NoiseIsThatOfTheCpu) {
  DeviceArray<DropoutStep> step(std::vector<DropoutStep>{{42, 7, 0.3f}});
  Context ctx;
  ctx.seed = 42, ctx.step = 7;
  for (const RowsCase& c : kCases) {
    std::vector<float> x = random_floats(c.T * c.C, 1), want = x;
    add_noise(ctx, matrix(want, c.T, c.C), 0.3f, kEmbeddingNoise);
    DeviceMatrix gx(Dtype::F32, c.T, c.C, x, c.pad);
    const std::vector<float> got = in_all_orders([&](GpuStream& s) {
      gx.reset(s);
      add_noise_cuda(s, gx.tensor(), step.data(), kEmbeddingNoise);
      return gx.get(s);
    });
    for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 2e-7 * (1 + std::abs(want[i])));  // the CPU rounds once less
  }
}

TEST(RowsCuda, ArgmaxTakesTheFirst) {
  for (int64_t C : {1, 7, 300, 5000})
    for (Dtype type : kTypes) {
      const int64_t T = 4;
      std::vector<float> x = as_stored(random_floats(T * C, 1), type);
      x[static_cast<size_t>(C - 1)] = 50;                                  // row 0: the last
      x[static_cast<size_t>(C + C / 2)] = x[static_cast<size_t>(C)] = 50;  // row 1: two of them
      for (int64_t c = 0; c < C; ++c) x[static_cast<size_t>(2 * C + c)] = std::numeric_limits<float>::quiet_NaN();
      DeviceMatrix gx(type, T, C, x, 3);
      DeviceArray<int32_t> best(T);
      const std::vector<int32_t> got = in_all_orders([&](GpuStream& s) {
        argmax_rows_cuda(s, best.data(), gx.tensor());
        return best.get(s);
      });
      for (int64_t t : {0, 1, 3})
        EXPECT_EQ(got[static_cast<size_t>(t)], std::max_element(x.begin() + t * C, x.begin() + (t + 1) * C) - x.begin() - t * C);
      EXPECT_EQ(got[2], 0);
    }
}

}  // namespace
}  // namespace loraine::rows_cuda_test
