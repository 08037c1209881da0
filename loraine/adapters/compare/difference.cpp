// See difference.h.
#include "loraine/adapters/compare/difference.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "loraine/adapters/low_rank.h"
#include "loraine/core/error.h"

namespace loraine {
namespace {

Factors triplets_of(Context& ctx, LowRankModule& m) {
  if (m.r == 0) return {};
  return singular_of_product(ctx, Tensor(m.b.data(), Dtype::F32, {m.out, m.r}), Tensor(m.a.data(), Dtype::F32, {m.r, m.in}));
}

double squares_of(const Factors& f) {
  double sum = 0;
  for (const float s : f.values) sum += static_cast<double>(s) * static_cast<double>(s);
  return sum;
}

// How many singular values are more than rounding.
int64_t singular_rank(const Factors& f) {
  return std::ranges::count_if(f.values, [&](float s) { return s > 1e-6f * f.values[0]; });
}

// ⟨x, y⟩ of direction i of one and j of the other: of input rows of `right`, of output columns of `left`.
double inner_product(const Factors& f, int64_t i, const Factors& g, int64_t j, int64_t size, bool of_input) {
  double sum = 0;
  const auto found_f = static_cast<int64_t>(f.values.size()), found_g = static_cast<int64_t>(g.values.size());
  for (int64_t e = 0; e < size; ++e)
    sum += of_input ? static_cast<double>(f.right[static_cast<size_t>(i * size + e)]) *
                          static_cast<double>(g.right[static_cast<size_t>(j * size + e)])
                    : static_cast<double>(f.left[static_cast<size_t>(e * found_f + i)]) *
                          static_cast<double>(g.left[static_cast<size_t>(e * found_g + j)]);
  return sum;
}

// Both products side by side: [s_1 B_1, −s_2 B_2] [A_1; A_2], whose size is the distance without cancellation.
LowRankModule minus(const LowRankModule& one, const LowRankModule& two) {
  LowRankModule out{one.path, one.embedding, one.in, one.out, one.r + two.r, 1, one.a, {}};
  out.a.insert(out.a.end(), two.a.begin(), two.a.end());
  out.b.resize(static_cast<size_t>(out.out * out.r));
  for (int64_t o = 0; o < out.out; ++o) {
    std::copy_n(one.b.data() + o * one.r, one.r, out.b.data() + o * out.r);
    for (int64_t k = 0; k < two.r; ++k) out.b[static_cast<size_t>(o * out.r + one.r + k)] = -two.b[static_cast<size_t>(o * two.r + k)];
  }
  return out;
}

LowRankModule scaled_module(const LowRankFile& file, const LowRankPlace& place) {
  LowRankModule m = file.read(place);
  for (float& x : m.b) x *= static_cast<float>(m.scale);
  m.scale = 1;
  return m;
}

void finish_difference(DeltaDifference& d, double one, double two, double apart, double inner) {
  d.distance = std::sqrt(apart);
  const double larger = std::sqrt(std::max(one, two));
  d.relative = larger > 0 ? d.distance / larger : 0;
  if (one > 0 && two > 0) d.cosine = std::clamp(inner / std::sqrt(one * two), -1.0, 1.0);
}

struct SquaresOfBoth {
  double one = 0, two = 0, apart = 0, inner = 0;
};

DeltaDifference of_module(const LowRankFile& first, const LowRankFile& second, const std::string& path, int64_t most, SquaresOfBoth& all) {
  DeltaDifference d;
  d.path = path;
  Context ctx;
  const LowRankPlace *one = first.find(path), *two = second.find(path);
  if (!one || !two) {
    LowRankModule m = one ? scaled_module(first, *one) : scaled_module(second, *two);
    const double squares = squares_of(triplets_of(ctx, m));
    (one ? d.first : d.second) = std::sqrt(squares);
    finish_difference(d, one ? squares : 0, two ? squares : 0, squares, 0);
    all.one += one ? squares : 0, all.two += two ? squares : 0, all.apart += squares;
    return d;
  }
  if (one->in != two->in || one->out != two->out || one->embedding != two->embedding)
    throw Error(ErrorKind::bad_data,
                fmt::format("{}: {} has it for a matrix of [{}, {}], {} for one of [{}, {}]", path, first.folder(), one->out, one->in,
                            second.folder(), two->out, two->in),
                "adapters of one base can be compared");
  LowRankModule a = scaled_module(first, *one), b = scaled_module(second, *two);
  const Factors f = triplets_of(ctx, a), g = triplets_of(ctx, b);
  const bool same = a.r == b.r && a.a == b.a && a.b == b.b;
  LowRankModule c = minus(a, b);
  const double of_one = squares_of(f), of_two = squares_of(g), apart = same ? 0 : squares_of(triplets_of(ctx, c));
  double inner = 0;
  for (size_t i = 0; i < f.values.size(); ++i)
    for (size_t j = 0; j < g.values.size(); ++j)
      inner += static_cast<double>(f.values[i]) * static_cast<double>(g.values[j]) *
               inner_product(f, static_cast<int64_t>(i), g, static_cast<int64_t>(j), a.in, true) *
               inner_product(f, static_cast<int64_t>(i), g, static_cast<int64_t>(j), a.out, false);
  d.first = std::sqrt(of_one), d.second = std::sqrt(of_two);
  finish_difference(d, of_one, of_two, apart, inner);
  all.one += of_one, all.two += of_two, all.apart += apart, all.inner += inner;
  d.k = std::min(singular_rank(f), singular_rank(g));
  if (most > 0) d.k = std::min(d.k, most);
  if (d.k == 0) return d;
  double in = 0, out = 0;
  for (int64_t i = 0; i < d.k; ++i)
    for (int64_t j = 0; j < d.k; ++j) {
      const double x = inner_product(f, i, g, j, a.in, true), y = inner_product(f, i, g, j, a.out, false);
      in += x * x, out += y * y;
    }
  d.phi_in = in / static_cast<double>(d.k), d.phi_out = out / static_cast<double>(d.k);
  return d;
}

}  // namespace

AdapterDifference compare_adapters(const std::string& first, const std::string& second, int64_t most,
                                   const std::function<void(int64_t, int64_t)>& done) {
  const LowRankFile one(first), two(second);
  AdapterDifference out;
  std::vector<std::string> paths;
  for (const LowRankFile* file : {&one, &two}) {
    for (const std::string& text : file->beside())
      out.notes.push_back(fmt::format("{} {}: only its low-rank products are compared", file->folder(), text));
    for (const LowRankPlace& place : file->modules()) paths.push_back(place.path);
  }
  std::ranges::sort(paths, before_by_number);
  paths.erase(std::unique(paths.begin(), paths.end()), paths.end());
  SquaresOfBoth all;
  double in = 0, output = 0;
  int64_t compared = 0;
  for (const std::string& path : paths) {
    out.modules.push_back(of_module(one, two, path, most, all));
    const DeltaDifference& d = out.modules.back();
    if (d.phi_in) in += *d.phi_in, output += *d.phi_out, ++compared;
    if (done) done(static_cast<int64_t>(out.modules.size()), static_cast<int64_t>(paths.size()));
  }
  out.total.first = std::sqrt(all.one), out.total.second = std::sqrt(all.two);
  finish_difference(out.total, all.one, all.two, all.apart, all.inner);
  if (compared) out.total.phi_in = in / static_cast<double>(compared), out.total.phi_out = output / static_cast<double>(compared);
  return out;
}

}  // namespace loraine
