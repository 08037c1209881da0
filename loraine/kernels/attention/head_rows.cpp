// Compiled once per instruction set by Highway's foreach_target.
#include "loraine/kernels/attention/head_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "loraine/kernels/attention/head_rows.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "loraine/kernels/base/elements-inl.h"

HWY_BEFORE_NAMESPACE();
namespace loraine {
namespace HWY_NAMESPACE {

struct Ahead {
  const char* first;
  int64_t stride, rows;  // bytes; 0 rows: nothing is asked for
  HWY_INLINE void ask(int64_t row, int64_t byte) const {
    if (row < rows) hwy::Prefetch(first + row * stride + byte);
  }
};

constexpr int kKeys = 4;                   // at a time
constexpr int kScores = 2, kWeighted = 3;  // heads whose sums stay in registers beside each other

#if HWY_TARGET == HWY_SCALAR
HWY_INLINE void store_sums(const V* s, float* out) {
  for (int64_t i = 0; i < kKeys; ++i) out[i] = hn::GetLane(s[i]);
}
#else
// A vector of 4 or more lanes: the sum of its blocks of 4.
template <class DV>
HWY_INLINE void store_sum_of_blocks(DV d, hn::Vec<DV> v, float* out) {
  if constexpr (hn::MaxLanes(DV()) == 4) {
    hn::StoreU(v, d, out);
  } else {
    const hn::Half<DV> half;
    store_sum_of_blocks(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)), out);
  }
}

// out[i] = the sum of the lanes of s[i].
HWY_INLINE void store_sums(const V* s, float* out) {
  const D d;
  const hn::Repartition<double, D> d64;
  const auto a = hn::BitCast(d64, hn::Add(hn::InterleaveLower(d, s[0], s[1]), hn::InterleaveUpper(d, s[0], s[1])));
  const auto b = hn::BitCast(d64, hn::Add(hn::InterleaveLower(d, s[2], s[3]), hn::InterleaveUpper(d, s[2], s[3])));
  store_sum_of_blocks(d, hn::Add(hn::BitCast(d, hn::InterleaveLower(d64, a, b)), hn::BitCast(d, hn::InterleaveUpper(d64, a, b))), out);
}
#endif

// Of kKeys keys, or of one.
template <class E, int kHeads, int kRows>
HWY_INLINE void scores_of_keys(float* scores, int64_t scores_stride, const typename E::T* keys, int64_t stride, const float* q, int64_t K,
                               const Ahead& ahead, int64_t r) {
  const D d;
  constexpr int64_t kSize = sizeof(typename E::T);
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), whole = K / lanes * lanes;
  V s[kHeads][kKeys];
  for (int h = 0; h < kHeads; ++h)
    for (int i = 0; i < kKeys; ++i) s[h][i] = hn::Zero(d);
  for (int64_t k = 0; k < whole; k += lanes) {
    if (k * kSize % 64 == 0)
      for (int i = 0; i < kRows; ++i) ahead.ask(r + i, k * kSize);
    V x[kRows];
    for (int i = 0; i < kRows; ++i) x[i] = E::load(d, keys + i * stride + k);
    for (int h = 0; h < kHeads; ++h) {
      const V qk = hn::LoadU(d, q + h * K + k);
      for (int i = 0; i < kRows; ++i) s[h][i] = hn::MulAdd(x[i], qk, s[h][i]);
    }
  }
  for (int h = 0; h < kHeads; ++h) {
    HWY_ALIGN float sums[kKeys];
    store_sums(s[h], sums);
    for (int64_t k = whole; k < K; ++k)
      for (int i = 0; i < kRows; ++i) sums[i] += E::one(keys[i * stride + k]) * q[h * K + k];
    std::copy_n(sums, kRows, scores + h * scores_stride);
  }
}

template <class E, int kHeads>
HWY_INLINE void scores_of(float* scores, int64_t scores_stride, const typename E::T* keys, int64_t stride, int64_t n, const float* q,
                          int64_t K, const Ahead& ahead) {
  int64_t r = 0;
  for (; r + kKeys <= n; r += kKeys) scores_of_keys<E, kHeads, kKeys>(scores + r, scores_stride, keys + r * stride, stride, q, K, ahead, r);
  for (; r < n; ++r) scores_of_keys<E, kHeads, 1>(scores + r, scores_stride, keys + r * stride, stride, q, K, ahead, r);
}

// kVectors vectors of kHeads sums.
template <class E, int kHeads, int kVectors>
HWY_INLINE void add_vectors(float* sums, int64_t width, const typename E::T* values, int64_t stride, int64_t n, const float* weights,
                            int64_t weights_stride, const Ahead& ahead) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), bytes = kVectors * lanes * static_cast<int64_t>(sizeof(typename E::T));
  V s[kHeads][kVectors];
  for (int h = 0; h < kHeads; ++h)
    for (int i = 0; i < kVectors; ++i) s[h][i] = hn::LoadU(d, sums + h * width + i * lanes);
  for (int64_t r = 0; r < n; ++r) {
    for (int64_t byte = 0; byte < bytes; byte += 64) ahead.ask(r, byte);
    V x[kVectors];
    for (int i = 0; i < kVectors; ++i) x[i] = E::load(d, values + r * stride + i * lanes);
    for (int h = 0; h < kHeads; ++h) {
      const V weight = hn::Set(d, weights[h * weights_stride + r]);
      for (int i = 0; i < kVectors; ++i) s[h][i] = hn::MulAdd(weight, x[i], s[h][i]);
    }
  }
  for (int h = 0; h < kHeads; ++h)
    for (int i = 0; i < kVectors; ++i) hn::StoreU(s[h][i], d, sums + h * width + i * lanes);
}

template <class E, int kHeads>
HWY_INLINE void add_of(float* sums, const typename E::T* values, int64_t stride, int64_t n, int64_t width, const float* weights,
                       int64_t weights_stride, const Ahead& ahead) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D())), size = sizeof(typename E::T);
  auto from = [&](int64_t c) { return ahead.rows == 0 ? ahead : Ahead{ahead.first + c * size, ahead.stride, ahead.rows}; };
  int64_t c = 0;
  for (; c + 4 * lanes <= width; c += 4 * lanes)
    add_vectors<E, kHeads, 4>(sums + c, width, values + c, stride, n, weights, weights_stride, from(c));
  for (; c + lanes <= width; c += lanes)
    add_vectors<E, kHeads, 1>(sums + c, width, values + c, stride, n, weights, weights_stride, from(c));
  for (; c < width; ++c)
    for (int h = 0; h < kHeads; ++h)
      for (int64_t r = 0; r < n; ++r) sums[h * width + c] += weights[h * weights_stride + r] * E::one(values[r * stride + c]);
}

// Calls body(first head, number of them as a constant) for groups of kMost, then one by one.
template <int kMost, class Body>
HWY_INLINE void for_heads(int64_t heads, Body&& body) {
  int64_t h = 0;
  for (; h + kMost <= heads; h += kMost) body(h, std::integral_constant<int, kMost>());
  for (; h < heads; ++h) body(h, std::integral_constant<int, 1>());
}

template <class E>
HWY_INLINE void all_scores(float* scores, int64_t scores_stride, const void* keys, int64_t stride, int64_t n, const float* q, int64_t K,
                           int64_t heads, const Ahead& ahead) {
  for_heads<kScores>(heads, [&](int64_t h, auto count) {
    scores_of<E, decltype(count)::value>(scores + h * scores_stride, scores_stride, static_cast<const typename E::T*>(keys), stride, n,
                                         q + h * K, K, h == 0 ? ahead : Ahead{});
  });
}

template <class E>
HWY_INLINE void add_all(float* sums, const void* values, int64_t stride, int64_t n, int64_t width, const float* weights,
                        int64_t weights_stride, int64_t heads, const Ahead& ahead) {
  for_heads<kWeighted>(heads, [&](int64_t h, auto count) {
    add_of<E, decltype(count)::value>(sums + h * width, static_cast<const typename E::T*>(values), stride, n, width,
                                      weights + h * weights_stride, weights_stride, h == 0 ? ahead : Ahead{});
  });
}

Ahead ahead_of(const Tensor& rows) {
  if (!rows.data) return {};
  return {static_cast<const char*>(rows.data), rows.row_stride * static_cast<int64_t>(size_of(rows.dtype)), rows.rows()};
}

void HeadScores(float* scores, int64_t scores_stride, const void* keys, Dtype dtype, int64_t stride, int64_t n, const float* q, int64_t K,
                int64_t heads, const Tensor& next) {
  const Ahead ahead = ahead_of(next);
  if (dtype == Dtype::F32) all_scores<F32Elements>(scores, scores_stride, keys, stride, n, q, K, heads, ahead);
  else all_scores<Bf16Elements>(scores, scores_stride, keys, stride, n, q, K, heads, ahead);
}

void AddWeightedValues(float* sums, const void* values, Dtype dtype, int64_t stride, int64_t n, int64_t width, const float* weights,
                       int64_t weights_stride, int64_t heads, const Tensor& next) {
  const Ahead ahead = ahead_of(next);
  if (dtype == Dtype::F32) add_all<F32Elements>(sums, values, stride, n, width, weights, weights_stride, heads, ahead);
  else add_all<Bf16Elements>(sums, values, stride, n, width, weights, weights_stride, heads, ahead);
}

}  // namespace HWY_NAMESPACE
}  // namespace loraine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace loraine {

HWY_EXPORT(HeadScores);
HWY_EXPORT(AddWeightedValues);

void head_scores(float* scores, int64_t scores_stride, const Tensor& keys, const float* q, int64_t heads, const Tensor& ahead) {
  HWY_DYNAMIC_DISPATCH(HeadScores)
  (scores, scores_stride, keys.data, keys.dtype, keys.row_stride, keys.rows(), q, keys.cols(), heads, ahead);
}
void add_weighted_values(float* sums, const Tensor& values, const float* weights, int64_t weights_stride, int64_t heads,
                         const Tensor& ahead) {
  HWY_DYNAMIC_DISPATCH(AddWeightedValues)
  (sums, values.data, values.dtype, values.row_stride, values.rows(), values.cols(), weights, weights_stride, heads, ahead);
}

}  // namespace loraine
#endif
