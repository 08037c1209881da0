// The loops of state_rows.h, compiled once per instruction set by Highway's foreach_target. Columns go in panels of a few vectors, whose
// sums stay in registers while the rows pass.
#include "loraine/kernels/recurrent/state_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "loraine/kernels/recurrent/state_rows.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <utility>

#include "loraine/kernels/base/elements-inl.h"
#include "loraine/kernels/base/lane_sums-inl.h"

HWY_BEFORE_NAMESPACE();
namespace loraine {
namespace HWY_NAMESPACE {

// body(0), body(1) … body(n − 1), laid out one after the other whatever the optimiser thinks of loops: what they work on is in registers.
template <class Body, int... kIndex>
HWY_INLINE void unrolled(Body&& body, std::integer_sequence<int, kIndex...>) {
  (body(kIndex), ...);
}

// kVectors vectors of a row, of which `access` reads and writes each.
template <int kVectors, class Access>
struct Panel {
  Access access;
  V v[kVectors];
  static int64_t lanes() { return static_cast<int64_t>(hn::Lanes(D())); }
  template <class Body>
  static HWY_INLINE void each(Body&& body) {
    unrolled(body, std::make_integer_sequence<int, kVectors>());
  }
  HWY_INLINE Panel(Access a, const float* from) : access(a) {
    each([&](int i) HWY_ATTR { v[i] = from ? access.load(from + i * lanes()) : hn::Zero(D()); });
  }
  HWY_INLINE void store(float* to) const {
    each([&](int i) HWY_ATTR { access.store(v[i], to + i * lanes()); });
  }
  HWY_INLINE void add(V weight, const Panel& x) {
    each([&](int i) HWY_ATTR { v[i] = hn::MulAdd(weight, x.v[i], v[i]); });
  }
  HWY_INLINE void add(V weight, const float* x) {
    each([&](int i) HWY_ATTR { v[i] = hn::MulAdd(weight, access.load(x + i * lanes()), v[i]); });
  }
  HWY_INLINE void add_product(const Panel& x, const Panel& y) {
    each([&](int i) HWY_ATTR { v[i] = hn::MulAdd(x.v[i], y.v[i], v[i]); });
  }
  HWY_INLINE void scale(V factor) {
    each([&](int i) HWY_ATTR { v[i] = hn::Mul(v[i], factor); });
  }
  HWY_INLINE void scale(const Panel& factors) {
    each([&](int i) HWY_ATTR { v[i] = hn::Mul(v[i], factors.v[i]); });
  }
  HWY_INLINE float sum() const {
    V all = v[0];
    for (int i = 1; i < kVectors; ++i) all = hn::Add(all, v[i]);
    return lane_sum(all);
  }
};

template <int kVectors, class Access>
struct Panels {
  Access access;
  HWY_INLINE Panel<kVectors, Access> load(const float* from) const { return {access, from}; }
  HWY_INLINE Panel<kVectors, Access> zero() const { return {access, nullptr}; }
};

// Calls body(first column, panels) for panels of kMost vectors, then for single ones, then for what is left.
template <int kMost, class Body>
HWY_INLINE void for_panels(int64_t cols, Body&& body) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  int64_t c = 0;
  for (; c + kMost * lanes <= cols; c += kMost * lanes) body(c, Panels<kMost, WholeVectors>{});
  for (; c + lanes <= cols; c += lanes) body(c, Panels<1, WholeVectors>{});
  if (c < cols) body(c, Panels<1, FirstElements>{FirstElements{static_cast<size_t>(cols - c)}});
}

HWY_INLINE V all(float x) { return hn::Set(D(), x); }

// Two sums, of the even and the odd rows: one would wait for itself.
void AddWeightedRows(float* y, const float* weights, int64_t weight_stride, const float* x, int64_t x_stride, int64_t rows, int64_t cols) {
  for_panels<4>(cols, [&](int64_t c, auto panels) {
    auto even = panels.load(y + c), odd = panels.zero();
    int64_t j = 0;
    for (; j + 2 <= rows; j += 2) {
      even.add(all(weights[j * weight_stride]), x + j * x_stride + c);
      odd.add(all(weights[(j + 1) * weight_stride]), x + (j + 1) * x_stride + c);
    }
    if (j < rows) even.add(all(weights[j * weight_stride]), x + j * x_stride + c);
    even.add(all(1.0f), odd);
    even.store(y + c);
  });
}

void StepState(float* state, int64_t rows, int64_t cols, const float* decay, int64_t decay_stride, const float* key, const float* value,
               float* out, const float* query) {
  for_panels<4>(cols, [&](int64_t c, auto panels) {
    const auto x = panels.load(value + c);
    auto sum = panels.zero();
    for (int64_t r = 0; r < rows; ++r) {
      auto row = panels.load(state + r * cols + c);
      row.scale(all(decay[r * decay_stride]));
      row.add(all(key[r]), x);
      row.store(state + r * cols + c);
      if (query) sum.add(all(query[r]), row);
    }
    if (out) sum.store(out + c);
  });
}

void DecayAndDot(float* w, int64_t rows, int64_t n, const float* decay, const float* first, const float* second, float* of_first,
                 float* of_second) {
  std::fill_n(of_first, rows, 0.0f);
  std::fill_n(of_second, rows, 0.0f);
  for_panels<4>(n, [&](int64_t c, auto panels) {
    const auto by = panels.load(decay + c), p = panels.load(first + c), q = panels.load(second + c);
    for (int64_t j = 0; j < rows; ++j) {
      auto x = panels.load(w + j * n + c), a = panels.zero(), b = panels.zero();
      x.scale(by);
      x.store(w + j * n + c);
      a.add_product(x, p);
      b.add_product(x, q);
      of_first[j] += a.sum();
      of_second[j] += b.sum();
    }
  });
}

void DecayAndAdd(float* w, int64_t rows, int64_t n, const float* decay, const float* for_first, const float* for_second, float* first,
                 float* second) {
  for_panels<4>(n, [&](int64_t c, auto panels) {
    const auto by = panels.load(decay + c);
    auto a = panels.load(first + c), b = panels.load(second + c);
    for (int64_t j = 0; j < rows; ++j) {
      auto x = panels.load(w + j * n + c);
      x.scale(by);
      x.store(w + j * n + c);
      a.add(all(for_first[j]), x);
      b.add(all(for_second[j]), x);
    }
    a.store(first + c);
    b.store(second + c);
  });
}

void AddAndDecay(float* w, int64_t rows, int64_t n, const float* decay, const float* for_first, const float* for_second, const float* first,
                 const float* second) {
  for_panels<4>(n, [&](int64_t c, auto panels) {
    const auto by = panels.load(decay + c), a = panels.load(first + c), b = panels.load(second + c);
    for (int64_t j = 0; j < rows; ++j) {
      auto x = panels.load(w + j * n + c);
      x.add(all(for_first[j]), a);
      x.add(all(for_second[j]), b);
      x.scale(by);
      x.store(w + j * n + c);
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace loraine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace loraine {

HWY_EXPORT(AddWeightedRows);
HWY_EXPORT(StepState);
HWY_EXPORT(DecayAndDot);
HWY_EXPORT(DecayAndAdd);
HWY_EXPORT(AddAndDecay);

void add_weighted_rows(float* y, const float* weights, int64_t weight_stride, const float* x, int64_t x_stride, int64_t rows,
                       int64_t cols) {
  HWY_DYNAMIC_DISPATCH(AddWeightedRows)(y, weights, weight_stride, x, x_stride, rows, cols);
}
void step_state(float* state, int64_t rows, int64_t cols, const float* decay, int64_t decay_stride, const float* key, const float* value,
                float* out, const float* query) {
  HWY_DYNAMIC_DISPATCH(StepState)(state, rows, cols, decay, decay_stride, key, value, out, query);
}
void decay_and_dot(float* w, int64_t rows, int64_t n, const float* decay, const float* first, const float* second, float* of_first,
                   float* of_second) {
  HWY_DYNAMIC_DISPATCH(DecayAndDot)(w, rows, n, decay, first, second, of_first, of_second);
}
void decay_and_add(float* w, int64_t rows, int64_t n, const float* decay, const float* for_first, const float* for_second, float* first,
                   float* second) {
  HWY_DYNAMIC_DISPATCH(DecayAndAdd)(w, rows, n, decay, for_first, for_second, first, second);
}
void add_and_decay(float* w, int64_t rows, int64_t n, const float* decay, const float* for_first, const float* for_second,
                   const float* first, const float* second) {
  HWY_DYNAMIC_DISPATCH(AddAndDecay)(w, rows, n, decay, for_first, for_second, first, second);
}

}  // namespace loraine
#endif
