// Attention on the GPU against double and the CPU's op, its gradient against differences of that: sequences of several lengths, grouped
// heads, windows, chunks, caps, sinks, odd widths, pages.
#include "loraine/kernels/attention/attention_cuda.h"

#include <limits>

#include "tests/support/gpu_check.h"

namespace loraine::attention_cuda_test {
namespace {

struct AttentionCase {
  std::vector<int64_t> lengths;
  AttentionShape shape;
  bool sinks = false;
  int64_t width() const { return shape.heads * shape.head_dim; }
};

AttentionShape shape_of(int64_t heads, int64_t kv_heads, int64_t D, int64_t window = 0, float softcap = 0, int64_t V = 0,
                        int64_t chunk = 0) {
  AttentionShape s;
  s.heads = heads, s.kv_heads = kv_heads, s.head_dim = D, s.window = window, s.softcap = softcap, s.value_dim = V, s.chunk = chunk;
  s.scale = 1 / std::sqrt(static_cast<float>(D));
  return s;
}

std::vector<Sequence> sequences_of(const std::vector<int64_t>& lengths) {
  std::vector<Sequence> out;
  int64_t start = 0;
  for (int64_t n : lengths) {
    Sequence s;
    s.start = s.kv_start = start, s.length = s.kv_length = n;
    out.push_back(s);
    start += n;
  }
  return out;
}

struct Reference {
  std::vector<double> o, lse;
};
// In double; row r of a sequence's keys is kv_row(r). sinks: [H] or empty.
Reference reference(const std::vector<double>& q, const std::vector<double>& k, const std::vector<double>& v,
                    const std::vector<double>& sinks, const std::vector<Sequence>& sequences, const AttentionShape& shape) {
  const int64_t H = shape.heads, D = shape.head_dim, V = shape.value_width(), Hkv = shape.kv_heads;
  const int64_t T = static_cast<int64_t>(q.size()) / (H * D);
  Reference out{std::vector<double>(static_cast<size_t>(T * H * V)), std::vector<double>(static_cast<size_t>(T * H))};
  for (const Sequence& s : sequences)
    for (int64_t i = 0; i < s.length; ++i)
      for (int64_t h = 0; h < H; ++h) {
        const int64_t place = s.kv_length - s.length + i, g = h / (H / Hkv), row = s.start + i;
        int64_t first = shape.window > 0 ? std::max<int64_t>(0, place + 1 - shape.window) : 0;
        if (shape.chunk > 0) first = std::max(first, place / shape.chunk * shape.chunk);
        std::vector<double> scores;
        double top = sinks.empty() ? -1e300 : sinks[static_cast<size_t>(h)];
        for (int64_t j = first; j <= place; ++j) {
          double dot = 0;
          for (int64_t d = 0; d < D; ++d)
            dot += q[static_cast<size_t>((row * H + h) * D + d)] * k[static_cast<size_t>((s.kv_row(j) * Hkv + g) * D + d)];
          dot *= shape.scale;
          if (shape.softcap > 0) dot = shape.softcap * std::tanh(dot / shape.softcap);
          scores.push_back(dot), top = std::max(top, dot);
        }
        double sum = sinks.empty() ? 0 : std::exp(sinks[static_cast<size_t>(h)] - top);
        for (double x : scores) sum += std::exp(x - top);
        out.lse[static_cast<size_t>(row * H + h)] = top + std::log(sum);
        for (int64_t j = first; j <= place; ++j)
          for (int64_t d = 0; d < V; ++d)
            out.o[static_cast<size_t>((row * H + h) * V + d)] +=
                std::exp(scores[static_cast<size_t>(j - first)] - top) / sum * v[static_cast<size_t>((s.kv_row(j) * Hkv + g) * V + d)];
      }
  return out;
}

// What lies on the device for one case; q, k and v are columns of one tensor, as the fused site gives them.
struct OnDevice {
  GpuSequences host;
  DeviceArray<GpuSequence> sequences;
  DeviceArray<float> sinks;
  AttentionShape shape;
  AttentionBatch batch;
  OnDevice(const std::vector<Sequence>& list, const AttentionShape& s, const std::vector<float>& sink_values)
      : host(gpu_sequences(list)), sequences(host.sequences), sinks(sink_values), shape(s) {
    batch = {sequences.data(), nullptr, static_cast<int64_t>(host.sequences.size()), host.longest};
    if (!sink_values.empty()) shape.sinks = sinks.data();
  }
};

std::vector<float> columns(const std::vector<float>& x, int64_t cols, int64_t first, int64_t count) {
  std::vector<float> out;
  for (size_t t = 0; t < x.size() / static_cast<size_t>(cols); ++t)
    out.insert(out.end(), x.begin() + static_cast<int64_t>(t) * cols + first, x.begin() + static_cast<int64_t>(t) * cols + first + count);
  return out;
}

void check_forward(const AttentionCase& c, Dtype type) {
  const AttentionShape& shape = c.shape;
  const std::vector<Sequence> sequences = sequences_of(c.lengths);
  const int64_t T = sequences.back().start + sequences.back().length, V = shape.value_width();
  const int64_t of_q = shape.heads * shape.head_dim, of_k = shape.kv_heads * shape.head_dim, of_v = shape.kv_heads * V,
                all = of_q + of_k + of_v;
  const std::vector<float> qkv = as_stored(random_floats(T * all, 1), type),
                           sinks = c.sinks ? random_floats(shape.heads, 2) : std::vector<float>();
  std::vector<float> q = columns(qkv, all, 0, of_q), k = columns(qkv, all, of_q, of_k), v = columns(qkv, all, of_q + of_k, of_v);
  const Reference want = reference(doubles(q), doubles(k), doubles(v), doubles(sinks), sequences, shape);
  const OnDevice device(sequences, shape, sinks);
  DeviceMatrix in(type, T, all, qkv), o(type, T, shape.heads * V), lse(Dtype::F32, T, shape.heads, {}, 1);
  const Tensor x = in.tensor();
  const std::vector<float> got = in_all_orders([&](GpuStream& s) {
    attention_cuda(s, o.tensor(), lse.tensor(), x.col_range(0, of_q), x.col_range(of_q, of_k), x.col_range(of_q + of_k, of_v), device.batch,
                   device.shape);
    return joined(o.get(s), lse.get(s));
  });
  const int64_t n = T * shape.heads * V;
  const double tolerance = type == Dtype::F32 ? 3e-6 : 6e-3;
  expect_near(std::vector<float>(got.begin(), got.begin() + n), want.o, tolerance, "o");
  expect_near(std::vector<float>(got.begin() + n, got.end()), want.lse, 3e-6, "lse");
  if (type != Dtype::F32) return;
  std::vector<float> cpu(static_cast<size_t>(n)), cpu_lse(static_cast<size_t>(T * shape.heads));
  AttentionShape on_cpu = shape;
  if (c.sinks) on_cpu.sinks = sinks.data();
  Context ctx;
  attention(ctx, matrix(cpu, T, shape.heads * V), matrix(cpu_lse, T, shape.heads), matrix(q, T, of_q), matrix(k, T, of_k),
            matrix(v, T, of_v), sequences, on_cpu);
  expect_near(std::vector<float>(got.begin(), got.begin() + n), cpu, 3e-6, "o as on the CPU");
}

TEST(AttentionCuda, RowByRow) {
  check_forward({{5, 1, 37}, shape_of(2, 1, 6)}, Dtype::F32);
  check_forward({{1, 40}, shape_of(4, 2, 10, 7)}, Dtype::F32);
  check_forward({{35}, shape_of(2, 2, 40, 0, 3)}, Dtype::BF16);
  check_forward({{33, 2}, shape_of(2, 1, 16, 0, 0, 24), true}, Dtype::F32);
  check_forward({{30}, shape_of(2, 1, 80, 9, 5, 0, 8), true}, Dtype::BF16);
  check_forward({{3}, shape_of(1, 1, 576, 0, 0, 512)}, Dtype::BF16);
  check_forward({{4}, shape_of(2, 1, 256)}, Dtype::F32);
  check_forward({{150}, shape_of(1, 1, 8)}, Dtype::F32);  // more than one turn of the warps
}

TEST(AttentionCuda, InTiles) {
  check_forward({{64}, shape_of(1, 1, 64)}, Dtype::BF16);
  check_forward({{100, 1, 37}, shape_of(2, 1, 64)}, Dtype::BF16);
  check_forward({{130}, shape_of(1, 1, 128, 40), true}, Dtype::BF16);
  check_forward({{70}, shape_of(2, 2, 64, 0, 4, 0, 48), true}, Dtype::BF16);
}

// Two sequences that go on after a past, in the rows of a cache and in pages of it, whose bits are the same.
void check_past(int64_t rows, Dtype type, const AttentionShape& shape) {
  const int64_t H = shape.heads, Hkv = shape.kv_heads, D = shape.head_dim, cache_rows = 5 * kKvPage, T = 2 * rows;
  std::vector<Sequence> lying(2), paged(2);
  const int32_t pages[2][2] = {{3, 0}, {4, 1}};
  for (size_t i = 0; i < 2; ++i) {
    lying[i].start = static_cast<int64_t>(i) * rows, lying[i].length = rows, lying[i].kv_start = static_cast<int64_t>(i) * 130;
    lying[i].kv_length = i ? 70 : 100;
    paged[i] = lying[i];
    paged[i].kv_start = 0, paged[i].pages = pages[i];
  }
  const std::vector<float> q = as_stored(random_floats(T * H * D, 1), type), k = as_stored(random_floats(cache_rows * Hkv * D, 2), type),
                           v = as_stored(random_floats(cache_rows * Hkv * D, 3), type);
  std::vector<float> paged_k = k, paged_v = v;
  for (size_t i = 0; i < 2; ++i)
    for (int64_t r = 0; r < lying[i].kv_length; ++r) {
      std::copy_n(k.begin() + lying[i].kv_row(r) * Hkv * D, Hkv * D, paged_k.begin() + paged[i].kv_row(r) * Hkv * D);
      std::copy_n(v.begin() + lying[i].kv_row(r) * Hkv * D, Hkv * D, paged_v.begin() + paged[i].kv_row(r) * Hkv * D);
    }
  const Reference want = reference(doubles(q), doubles(k), doubles(v), {}, lying, shape);
  DeviceMatrix gq(type, T, H * D, q), gk(type, cache_rows, Hkv * D, k), gv(type, cache_rows, Hkv * D, v),
      gpk(type, cache_rows, Hkv * D, paged_k), gpv(type, cache_rows, Hkv * D, paged_v), o(type, T, H * D);
  const OnDevice device(lying, shape, {});
  const GpuSequences in_pages = gpu_sequences(paged);
  EXPECT_EQ(in_pages.pages, (std::vector<int32_t>{3, 0, 4, 1}));
  const DeviceArray<GpuSequence> sequences(in_pages.sequences);
  const DeviceArray<int32_t> page_list(in_pages.pages);
  const std::vector<float> got = in_all_orders([&](GpuStream& s) {
    attention_cuda(s, o.tensor(), Tensor(), gq.tensor(), gk.tensor(), gv.tensor(), device.batch, device.shape);
    return o.get(s);
  });
  expect_near(got, want.o, type == Dtype::F32 ? 3e-6 : 6e-3, "o over a past");
  const std::vector<float> from_pages = in_all_orders([&](GpuStream& s) {
    attention_cuda(s, o.tensor(), Tensor(), gq.tensor(), gpk.tensor(), gpv.tensor(),
                   {sequences.data(), page_list.data(), 2, in_pages.longest}, shape);
    return o.get(s);
  });
  if (rows <= 4) EXPECT_EQ(from_pages, got);
  else expect_near(from_pages, want.o, 6e-3, "o over pages");
}

TEST(AttentionCuda, PastAndPages) {
  check_past(1, Dtype::BF16, shape_of(2, 1, 64));
  check_past(3, Dtype::F32, shape_of(4, 2, 10, 50));
  check_past(20, Dtype::BF16, shape_of(2, 1, 64, 30));
}

void check_backward(const AttentionCase& c, Dtype type) {
  const AttentionShape& shape = c.shape;
  const std::vector<Sequence> sequences = sequences_of(c.lengths);
  const int64_t T = sequences.back().start + sequences.back().length, H = shape.heads, V = shape.value_width();
  const int64_t of_q = H * shape.head_dim, of_k = shape.kv_heads * shape.head_dim, of_v = shape.kv_heads * V, all = of_q + of_k + of_v;
  std::vector<float> qkv = as_stored(random_floats(T * all, 1), type), sinks = c.sinks ? random_floats(H, 2) : std::vector<float>(),
                     r = as_stored(random_floats(T * H * V, 3), type);
  std::vector<float> qf = columns(qkv, all, 0, of_q), kf = columns(qkv, all, of_q, of_k), vf = columns(qkv, all, of_q + of_k, of_v);
  std::vector<double> q = doubles(qf), k = doubles(kf), v = doubles(vf), sink = doubles(sinks);
  std::vector<double> want_q, want_k, want_v, want_sinks;
  if (type == Dtype::F32) {
    auto loss = [&] { return inner(reference(q, k, v, sink, sequences, shape).o, r); };
    want_q = central_differences(q, loss), want_k = central_differences(k, loss), want_v = central_differences(v, loss),
    want_sinks = central_differences(sink, loss);
  } else {  // the CPU's op, in f32
    std::vector<float> o(r.size()), lse(static_cast<size_t>(T * H)), dq(qf.size()), dk(kf.size()), dv(vf.size()), d_sinks(sinks.size());
    AttentionShape s = shape;
    if (c.sinks) s.sinks = sinks.data();
    std::vector<float> partial(static_cast<size_t>(T * attention_partial_columns(s)));
    Context ctx;
    attention(ctx, matrix(o, T, H * V), matrix(lse, T, H), matrix(qf, T, of_q), matrix(kf, T, of_k), matrix(vf, T, of_v), sequences, s);
    attention_backward(ctx, matrix(dq, T, of_q), matrix(dk, T, of_k), matrix(dv, T, of_v), matrix(r, T, H * V), matrix(o, T, H * V),
                       matrix(lse, T, H), matrix(qf, T, of_q), matrix(kf, T, of_k), matrix(vf, T, of_v), sequences, s,
                       matrix(partial, T, attention_partial_columns(s)), c.sinks ? d_sinks.data() : nullptr);
    want_q = doubles(dq), want_k = doubles(dk), want_v = doubles(dv), want_sinks = doubles(d_sinks);
  }
  for (double& d : want_sinks) d += 0.5;  // added to what is there
  const OnDevice device(sequences, shape, sinks);
  DeviceMatrix in(type, T, all, qkv), o(type, T, H * V), d_o(type, T, H * V, r), lse(Dtype::F32, T, H), delta(Dtype::F32, T, H),
      out(type, T, all), d_sinks(Dtype::F32, 1, H, std::vector<float>(static_cast<size_t>(H), 0.5f));
  const Tensor x = in.tensor(), d = out.tensor();
  const Tensor tq = x.col_range(0, of_q), tk = x.col_range(of_q, of_k), tv = x.col_range(of_q + of_k, of_v);
  const std::vector<float> got = in_all_orders([&](GpuStream& s) {
    d_sinks.reset(s);
    attention_cuda(s, o.tensor(), lse.tensor(), tq, tk, tv, device.batch, device.shape);
    attention_backward_cuda(s, d.col_range(0, of_q), d.col_range(of_q, of_k), d.col_range(of_q + of_k, of_v), d_o.tensor(), o.tensor(),
                            lse.tensor(), tq, tk, tv, device.batch, device.shape, delta.tensor(),
                            c.sinks ? d_sinks.tensor().f32() : nullptr);
    return joined(out.get(s), d_sinks.get(s));
  });
  const std::vector<float> d_qkv(got.begin(), got.begin() + T * all), sinks_got(got.begin() + T * all, got.end());
  const double tolerance = type == Dtype::F32 ? 1e-5 : 2e-2;
  expect_near(columns(d_qkv, all, 0, of_q), want_q, tolerance, "d_q");
  expect_near(columns(d_qkv, all, of_q, of_k), want_k, tolerance, "d_k");
  expect_near(columns(d_qkv, all, of_q + of_k, of_v), want_v, tolerance, "d_v");
  if (c.sinks) expect_near(sinks_got, want_sinks, tolerance, "d_sinks");
}

TEST(AttentionCuda, BackwardRowByRow) {
  check_backward({{3, 1, 9}, shape_of(2, 1, 6)}, Dtype::F32);
  check_backward({{12}, shape_of(4, 2, 10, 5)}, Dtype::F32);
  check_backward({{11}, shape_of(2, 1, 8, 0, 2), true}, Dtype::F32);
  check_backward({{10, 2}, shape_of(2, 1, 8, 0, 0, 12), true}, Dtype::F32);
  check_backward({{12}, shape_of(2, 1, 6, 7, 3, 0, 4), true}, Dtype::F32);
  check_backward({{70, 3}, shape_of(2, 1, 40, 30)}, Dtype::BF16);
}

TEST(AttentionCuda, BackwardOfTiles) {
  check_backward({{70, 40}, shape_of(2, 1, 64)}, Dtype::BF16);
  check_backward({{66}, shape_of(2, 2, 64, 20, 4, 0, 48), true}, Dtype::BF16);
  check_backward({{33}, shape_of(1, 1, 128)}, Dtype::BF16);
}

TEST(AttentionCuda, WidthsBeyondAreRefused) {
  GpuStream s;
  EXPECT_ANY_THROW(attention_cuda(s, {}, {}, {}, {}, {}, {}, shape_of(1, 1, 577)));
}

}  // namespace
}  // namespace loraine::attention_cuda_test
