// See truncate.h.
#include "loraine/adapters/decompose/truncate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "loraine/core/error.h"

namespace loraine {

void check_choice(const RankChoice& choice) {
  if (!choice.rank && !choice.energy)
    throw Error(ErrorKind::usage, "neither rank nor energy is given",
                "--rank 8, or --energy 0.95 for the least rank that keeps 95 % of ‖ΔW‖²");
  if (choice.rank && *choice.rank < 1) throw Error(ErrorKind::usage, fmt::format("rank is {}", *choice.rank), "a rank of at least 1");
  if (choice.energy && !(*choice.energy > 0 && *choice.energy <= 1))
    throw Error(ErrorKind::usage, fmt::format("energy is {}", *choice.energy), "a share above 0 and at most 1");
}

int64_t kept_rank(std::span<const float> values, double all, const RankChoice& choice) {
  if (values.empty() || !(values[0] > 0)) return 0;
  const auto most = static_cast<int64_t>(values.size());
  const int64_t cap = std::min(choice.rank.value_or(most), most);
  if (!choice.energy) return cap;
  double sum = 0;
  // a share of all but the rounding of f32 is all
  const double wanted = *choice.energy * all * (1 - 1e-6);
  for (int64_t k = 0; k < cap; ++k) {
    sum += static_cast<double>(values[static_cast<size_t>(k)]) * static_cast<double>(values[static_cast<size_t>(k)]);
    if (sum >= wanted) return k + 1;
  }
  return cap;
}

LowRankModule balanced(const std::string& path, bool embedding, int64_t out, int64_t in, const Factors& f, int64_t found, int64_t r) {
  LowRankModule m{
      path, embedding, in, out, r, 1, std::vector<float>(static_cast<size_t>(r * in)), std::vector<float>(static_cast<size_t>(out * r))};
  for (int64_t k = 0; k < std::min(r, found); ++k) {
    const float root = std::sqrt(f.values[static_cast<size_t>(k)]);
    for (int64_t i = 0; i < in; ++i) m.a[static_cast<size_t>(k * in + i)] = f.right[static_cast<size_t>(k * in + i)] * root;
    for (int64_t o = 0; o < out; ++o) m.b[static_cast<size_t>(o * r + k)] = f.left[static_cast<size_t>(o * found + k)] * root;
  }
  return m;
}

}  // namespace loraine
