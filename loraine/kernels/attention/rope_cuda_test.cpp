// Rope on the GPU against double and the CPU's op: both layouts, parts of a head, strided rows, there and back.
#include "loraine/kernels/attention/attention_cuda.h"
#include "tests/support/gpu_check.h"

namespace loraine::rope_cuda_test {
namespace {

struct RopeCase {
  RopeLayout layout;
  int64_t heads, head_dim, first, pairs;
  float scale;
};

std::vector<double> turned(const std::vector<float>& x, const RopeCase& c, const std::vector<int32_t>& positions,
                           const std::vector<float>& frequencies, double direction) {
  std::vector<double> y = doubles(x);
  const int64_t cols = c.heads * c.head_dim;
  for (size_t t = 0; t < positions.size(); ++t)
    for (int64_t h = 0; h < c.heads; ++h)
      for (int64_t i = 0; i < c.pairs; ++i) {
        const double angle = static_cast<float>(positions[t]) * frequencies[static_cast<size_t>(i)];
        const size_t head = t * static_cast<size_t>(cols) + static_cast<size_t>(h * c.head_dim + c.first);
        const size_t a = head + static_cast<size_t>(c.layout == RopeLayout::half ? i : 2 * i);
        const size_t b = head + static_cast<size_t>(c.layout == RopeLayout::half ? i + c.pairs : 2 * i + 1);
        y[a] = c.scale * (x[a] * std::cos(angle) - direction * x[b] * std::sin(angle));
        y[b] = c.scale * (x[b] * std::cos(angle) + direction * x[a] * std::sin(angle));
      }
  return y;
}

TEST(RopeCuda, LayoutsPartsAndBack) {
  const RopeCase cases[] = {{RopeLayout::half, 3, 10, 0, 5, 1.25f},
                            {RopeLayout::pairs, 2, 38, 6, 13, 1},
                            {RopeLayout::half, 5, 128, 0, 64, 1},
                            {RopeLayout::half, 1, 300, 4, 140, 1},
                            {RopeLayout::pairs, 3, 64, 0, 32, 0.5f}};
  const std::vector<int32_t> positions = {0, 1, 5, 2, 100, 4000};
  const int64_t T = static_cast<int64_t>(positions.size());
  for (const RopeCase& c : cases)
    for (Dtype type : {Dtype::F32, Dtype::BF16}) {
      const int64_t cols = c.heads * c.head_dim;
      const std::vector<float> x = as_stored(random_floats(T * cols, 1), type);
      std::vector<float> frequencies;
      for (int64_t i = 0; i < c.pairs; ++i) frequencies.push_back(std::pow(10000.0f, -static_cast<float>(i) / static_cast<float>(c.pairs)));
      DeviceMatrix gx(type, T, cols, x, 5);
      DeviceArray<int32_t> gp(positions);
      DeviceArray<float> gf(frequencies);
      for (float direction : {1.0f, -1.0f}) {
        const std::vector<float> y = in_all_orders([&](GpuStream& s) {
          gx.reset(s);
          rope_cuda(s, gx.tensor(), c.head_dim, gp.data(), gf.data(), c.pairs, c.scale, direction, c.layout, c.first);
          return gx.get(s);
        });
        expect_near(y, turned(x, c, positions, frequencies, direction), type == Dtype::F32 ? 1e-6 : 4e-3, "y");
        std::vector<float> cpu = x;
        Context ctx;
        auto op = direction > 0 ? rope : rope_backward;
        op(ctx, matrix(cpu, T, cols), c.head_dim, positions, frequencies, c.scale, c.layout, c.first);
        expect_near(y, cpu, type == Dtype::F32 ? 1e-6 : 4e-3, "y as on the CPU");
      }
    }
}

}  // namespace
}  // namespace loraine::rope_cuda_test
