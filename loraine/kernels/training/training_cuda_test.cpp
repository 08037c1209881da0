// The loss on the GPU against the CPU's op and double, whole and in pieces; the gradients' norm; AdamW against the CPU's.
#include "loraine/kernels/training/training_cuda.h"

#include <limits>
#include <memory>

#include "tests/support/gpu_check.h"

namespace loraine::training_cuda_test {
namespace {

void check_loss(int64_t V, int64_t piece, Dtype type, const TokenLoss& loss) {
  const int64_t n = 4;
  const float scale = 0.25f;
  std::vector<float> logits = as_stored(random_floats(n * V, 1, 3), type);
  std::vector<int32_t> labels;
  for (int64_t i = 0; i < n; ++i) labels.push_back(static_cast<int32_t>(i * 131 % V));
  logits[0] = 80;                                                                                           // row 0: its label, far ahead
  if (V > 2) logits[static_cast<size_t>(V + 2)] = 80;                                                       // row 1: another token
  if (V > 8) logits[static_cast<size_t>(2 * V + labels[2])] = logits[static_cast<size_t>(2 * V + 1)] = 40;  // row 2: two largest
  std::vector<double> want(n);
  std::vector<uint8_t> want_correct(n);
  std::vector<float> d_want = logits;
  Context ctx;
  const Tensor on_cpu = matrix(d_want, n, V);
  cross_entropy(ctx, on_cpu, {}, labels, want, want_correct, 0, loss);
  cross_entropy(ctx, on_cpu, on_cpu, labels, want, {}, scale, loss);
  std::vector<std::unique_ptr<DeviceMatrix>> pieces, gradients;
  for (int64_t first = 0; first < V; first += piece) {
    const int64_t width = std::min(piece, V - first);
    std::vector<float> part;
    for (int64_t i = 0; i < n; ++i) part.insert(part.end(), logits.begin() + i * V + first, logits.begin() + i * V + first + width);
    pieces.push_back(std::make_unique<DeviceMatrix>(type, n, width, part, 8));
    gradients.push_back(std::make_unique<DeviceMatrix>(Dtype::BF16, n, width));
  }
  DeviceArray<LossState> states(n);
  DeviceArray<int32_t> gl(labels);
  DeviceArray<double> losses(n);
  DeviceArray<uint8_t> correct(n);
  const std::vector<double> got = in_all_orders([&](GpuStream& s) {
    for (size_t i = 0; i < pieces.size(); ++i)
      pieces[i]->reset(s), add_logits_cuda(s, states.data(), pieces[i]->tensor(), gl.data(), static_cast<int64_t>(i) * piece);
    losses_cuda(s, losses.data(), correct.data(), states.data(), gl.data(), n, V, loss);
    return losses.get(s);
  });
  GpuStream s;
  EXPECT_EQ(correct.get(s), want_correct);
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 2e-6 * (1 + std::abs(want[i]))) << V << " " << i;
  auto whole = [&](const std::vector<std::unique_ptr<DeviceMatrix>>& parts, GpuStream& stream) {
    std::vector<float> d(static_cast<size_t>(n * V));
    for (size_t p = 0; p < parts.size(); ++p) {
      const std::vector<float> part = parts[p]->get(stream);
      const int64_t first = static_cast<int64_t>(p) * piece, width = std::min(piece, V - first);
      for (int64_t i = 0; i < n; ++i) std::copy_n(part.begin() + i * width, width, d.begin() + i * V + first);
    }
    return d;
  };
  const std::vector<float> apart = in_all_orders([&](GpuStream& stream) {
    for (size_t i = 0; i < pieces.size(); ++i) {
      pieces[i]->reset(stream);
      logit_gradient_cuda(stream, gradients[i]->tensor(), pieces[i]->tensor(), states.data(), gl.data(), static_cast<int64_t>(i) * piece, V,
                          scale, loss);
    }
    return whole(gradients, stream);
  });
  expect_near(apart, d_want, 4e-3, "gradient elsewhere, in bf16");
  const std::vector<float> in_place = in_all_orders([&](GpuStream& stream) {
    for (size_t i = 0; i < pieces.size(); ++i) {
      pieces[i]->reset(stream);
      logit_gradient_cuda(stream, pieces[i]->tensor(), pieces[i]->tensor(), states.data(), gl.data(), static_cast<int64_t>(i) * piece, V,
                          scale, loss);
    }
    return whole(pieces, stream);
  });
  expect_near(in_place, d_want, type == Dtype::F32 ? 2e-6 : 4e-3, "gradient in place");
}

TEST(TrainingCuda, CrossEntropy) {
  for (Dtype type : {Dtype::F32, Dtype::BF16}) {
    check_loss(1, 1, type, {});
    check_loss(7, 7, type, {});
    check_loss(1025, 1025, type, {});
    check_loss(5000, 2048, type, {});  // three pieces
    check_loss(2056, 2056, type, {.smoothing = 0.1f});
    check_loss(301, 100, type, {.weight = TokenWeight::probability});
  }
}

TEST(TrainingCuda, LossAgainstDifferencesInDouble) {
  const int64_t n = 2, V = 37;
  const std::vector<float> logits = random_floats(n * V, 1, 2);
  const std::vector<int32_t> labels = {5, 36};
  std::vector<double> x = doubles(logits);
  const double epsilon = 0.1f;
  const std::vector<double> want = central_differences(x, [&] {
    double total = 0;
    for (int64_t i = 0; i < n; ++i) {
      double sum = 0, mean = 0;
      for (int64_t v = 0; v < V; ++v)
        sum += std::exp(x[static_cast<size_t>(i * V + v)]), mean += x[static_cast<size_t>(i * V + v)] / static_cast<double>(V);
      total += std::log(sum) - (1 - epsilon) * x[static_cast<size_t>(i * V + labels[static_cast<size_t>(i)])] - epsilon * mean;
    }
    return 0.5 * total;
  });
  DeviceMatrix g(Dtype::F32, n, V, logits);
  DeviceArray<LossState> states(n);
  DeviceArray<int32_t> gl(labels);
  GpuStream s;
  add_logits_cuda(s, states.data(), g.tensor(), gl.data(), 0);
  logit_gradient_cuda(s, g.tensor(), g.tensor(), states.data(), gl.data(), 0, V, 0.5f, {.smoothing = 0.1f});
  expect_near(g.get(s), want, 1e-6, "gradient");
  EXPECT_ANY_THROW(losses_cuda(s, nullptr, nullptr, nullptr, nullptr, n, V, {.weight = TokenWeight::entropy}));
  EXPECT_ANY_THROW(losses_cuda(s, nullptr, nullptr, nullptr, nullptr, n, V, {.divergence = 0.5f}));
}

TEST(TrainingCuda, GradientNormAndAdamW) {
  const std::vector<int64_t> sizes = {1000, 37, 20000};
  const int64_t most = 20000, count = static_cast<int64_t>(sizes.size()), cols = 10, stride = 13;
  const AdamW slow{1e-3f, 0.9f, 0.999f, 1e-8f, 0.01f, 3};
  AdamW fast = slow;
  fast.learning_rate *= 16;  // LoRA+
  std::vector<std::unique_ptr<DeviceMatrix>> tensors;
  std::vector<AdamWItem> items;
  std::vector<GradientItem> gradients;
  std::vector<std::vector<float>> want;
  double sum = 0;
  for (size_t i = 0; i < sizes.size(); ++i)
    for (float x : random_floats(sizes[i], static_cast<uint32_t>(10 * i + 1))) sum += static_cast<double>(x) * x;
  const double max_norm = 0.5 * std::sqrt(sum);
  const float scale = static_cast<float>(max_norm / (std::sqrt(sum) + 1e-6));
  DeviceArray<bf16> copy(static_cast<size_t>(100 * stride));  // of the first tensor, in rows of 10
  DeviceArray<float> tripled(37);                             // of the second
  for (size_t i = 0; i < sizes.size(); ++i) {
    const uint32_t seed = static_cast<uint32_t>(10 * i);
    std::vector<float> g = random_floats(sizes[i], seed + 1), p = random_floats(sizes[i], seed + 2), m = random_floats(sizes[i], seed + 3),
                       v = random_floats(sizes[i], seed + 4);
    for (float& x : v) x = x * x;
    for (const auto& values : {g, p, m, v}) tensors.push_back(std::make_unique<DeviceMatrix>(Dtype::F32, 1, sizes[i], values));
    auto at = [&](size_t k) { return tensors[4 * i + k]->tensor().f32(); };
    const AdamW& options = i == 1 ? fast : slow;
    items.push_back({at(1), at(2), at(3), at(0), i == 0 ? copy.data() : nullptr, sizes[i], cols, stride, decimal_of(options.weight_decay),
                     i == 1 ? 1 : 0});
    if (i == 1) items[1].copy = tripled.data(), items[1].copy_cols = 37, items[1].copy_scale = 3, items[1].copy_narrow = false;
    gradients.push_back({at(0), sizes[i]});
    Context ctx;
    adamw(ctx, matrix(p, 1, sizes[i]), matrix(m, 1, sizes[i]), matrix(v, 1, sizes[i]), matrix(g, 1, sizes[i]), scale, options);
    for (const auto& values : {p, m, v}) want.push_back(values);
  }
  const DeviceArray<AdamWItem> on_device(items);
  const DeviceArray<GradientItem> of_norm(gradients);
  const DeviceArray<AdamWScalars> scalars(std::vector<AdamWScalars>{adamw_scalars(slow), adamw_scalars(fast)});
  const DeviceArray<GradientNorm> norm(1);
  const DeviceArray<double> partial(static_cast<size_t>(gradient_norm_room(count, most)));
  const std::vector<float> got = in_all_orders([&](GpuStream& s) {
    for (const auto& t : tensors) t->reset(s);
    copy.clear(s);
    gradient_norm_cuda(s, norm.data(), of_norm.data(), count, most, max_norm, partial.data());
    adamw_cuda(s, on_device.data(), count, most, 21037, scalars.data(), norm.data());
    std::vector<float> all;
    for (size_t i = 0; i < sizes.size(); ++i)
      for (size_t k = 1; k < 4; ++k) all = joined(all, tensors[4 * i + k]->get(s));
    return all;
  });
  GpuStream s;
  const GradientNorm found = norm.get(s)[0];
  EXPECT_NEAR(found.norm, std::sqrt(sum), 1e-9 * std::sqrt(sum));
  EXPECT_FLOAT_EQ(found.scale, scale);
  size_t at = 0;
  for (const std::vector<float>& w : want) {
    expect_near(std::vector<float>(got.begin() + static_cast<int64_t>(at), got.begin() + static_cast<int64_t>(at + w.size())), w, 2e-7,
                "p, m or v");
    at += w.size();
  }
  const std::vector<bf16> copied = copy.get(s);
  for (size_t r = 0; r < 100; ++r)
    for (size_t c = 0; c < static_cast<size_t>(stride); ++c)
      EXPECT_EQ(copied[r * static_cast<size_t>(stride) + c], c < 10 ? f32_to_bf16(got[r * 10 + c]) : 0xffff) << r << " " << c;
  const std::vector<float> three = tripled.get(s);
  for (size_t i = 0; i < 37; ++i) EXPECT_EQ(three[i], 3 * got[3000 + i]);
  gradient_norm_cuda(s, norm.data(), of_norm.data(), count, most, 0, partial.data());
  EXPECT_EQ(norm.get(s)[0].scale, 1);
  const DeviceMatrix bad(Dtype::F32, 1, 1, {std::numeric_limits<float>::quiet_NaN()});
  const DeviceArray<GradientItem> with_nan(std::vector<GradientItem>{{bad.tensor().f32(), 1}});
  gradient_norm_cuda(s, norm.data(), with_nan.data(), 1, 1, 1, partial.data());
  EXPECT_TRUE(std::isnan(norm.get(s)[0].norm));
  adamw_cuda(s, on_device.data(), count, most, 21037, scalars.data(), norm.data());  // nothing changes
  EXPECT_EQ(tensors[1]->get(s), std::vector<float>(got.begin(), got.begin() + 1000));
}

}  // namespace
}  // namespace loraine::training_cuda_test
