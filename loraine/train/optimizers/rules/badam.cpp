// The share moves on by its own length every 100 updates; then the moments begin anew.
#include "loraine/train/optimizers/rules/badam.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "loraine/kernels/base/parallel.h"

namespace loraine {
namespace {

constexpr int64_t kInterval = 100;  // badam's, which LLaMA-Factory leaves as it is

int64_t turn_of(int64_t step) { return (step - 1) / kInterval; }

// A permutation of [0, n) in no memory: a Feistel network over the next even power of 2, walked until it falls inside.
int64_t scattered(int64_t i, int64_t n, uint64_t seed) {
  const int half = (std::bit_width(static_cast<uint64_t>(n > 1 ? n - 1 : 1)) + 1) / 2;
  const uint64_t mask = (uint64_t{1} << half) - 1;
  auto x = static_cast<uint64_t>(i);
  do {
    uint64_t left = x >> half, right = x & mask;
    for (uint64_t round = 0; round < 4; ++round) {
      uint64_t mixed = (right + seed * 0x9e3779b97f4a7c15u + round * 0xbf58476d1ce4e5b9u) * 0x94d049bb133111ebu;
      mixed ^= mixed >> 31;
      mixed *= 0xbf58476d1ce4e5b9u;
      const uint64_t next = left ^ (mixed >> 33 & mask);
      left = right;
      right = next;
    }
    x = left << half | right;
  } while (x >= static_cast<uint64_t>(n));
  return static_cast<int64_t>(x);
}

// No two places are one element, so that they may go side by side.
template <class Body>
void over_places(int64_t count, Body&& body) {
  constexpr int64_t kRun = 4096;
  parallel_for((count + kRun - 1) / kRun, [&](int64_t run) {
    for (int64_t place = run * kRun; place < std::min(count, (run + 1) * kRun); ++place) body(place);
  });
}

}  // namespace

std::vector<StateShape> BAdamRatioRule::states(const Parameter& parameter) const {
  const int64_t count = share(parameter.value.numel());
  return {{"m", Dtype::F32, {count}}, {"v", Dtype::F32, {count}}};
}

int64_t BAdamRatioRule::element(int64_t place, int64_t turn, int64_t elements) const {
  const int64_t at = (turn % elements * share(elements) + place) % elements;
  return scatter_ ? scattered(at, elements, seed_) : at;
}

size_t BAdamRatioRule::scratch_bytes(const Parameter& parameter) const {
  return static_cast<size_t>(share(parameter.value.numel())) * sizeof(float);
}

void BAdamRatioRule::restrict_gradient(const Update& u, float* scratch) const {
  const int64_t n = u.gradient.numel(), count = share(n), turn = turn_of(u.step);
  float* g = u.gradient.f32();
  over_places(count, [&](int64_t place) { scratch[place] = g[element(place, turn, n)]; });
  std::memset(g, 0, u.gradient.bytes());
  over_places(count, [&](int64_t place) { g[element(place, turn, n)] = scratch[place]; });
}

void BAdamRatioRule::update(Context&, const Update& u, States states, float*) const {
  const int64_t n = u.value.numel(), count = share(n), turn = turn_of(u.step), step = u.step - turn * kInterval;
  float *m = states[0].f32(), *v = states[1].f32();
  if (step == 1) {
    std::memset(m, 0, states[0].bytes());
    std::memset(v, 0, states[1].bytes());
  }
  const double correction1 = 1 - std::pow(options_.beta1, static_cast<double>(step));
  const double correction2 = 1 - std::pow(options_.beta2, static_cast<double>(step));
  const float rate = static_cast<float>(u.rate * std::sqrt(correction2) / correction1), epsilon = static_cast<float>(options_.epsilon);
  const float rest1 = static_cast<float>(1 - options_.beta1), rest2 = static_cast<float>(1 - options_.beta2);
  over_places(count, [&](int64_t place) {
    const int64_t i = element(place, turn, n);
    const float g = u.gradient.f32()[i] * u.scale;
    m[place] += (g - m[place]) * rest1;
    v[place] += (g * g - v[place]) * rest2;
    u.value.f32()[i] -= rate * (m[place] / (std::sqrt(v[place]) + epsilon));
  });
}

}  // namespace loraine
