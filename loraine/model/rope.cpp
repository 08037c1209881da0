// One call where all sequences share their frequencies, one for each where these follow from its length.
#include "loraine/model/rope.h"

#include <algorithm>
#include <cmath>

namespace loraine {
namespace {

template <class F>
void for_each_rotation(const Step& s, const Rope& rope, const F& f) {
  const std::span<const int32_t> positions = s.batch.positions;
  if (rope.original_length == 0) return f(int64_t{0}, s.batch.rows(), positions, std::span<const float>(rope.frequencies), rope.scale);
  for (const Sequence& sequence : s.batch.sequences) {
    const auto here = positions.subspan(static_cast<size_t>(sequence.start), static_cast<size_t>(sequence.length));
    const int64_t length = *std::ranges::max_element(here) + int64_t{1};
    const std::vector<float> frequencies = rope.frequencies_for(length);
    const bool is_long = !rope.long_frequencies.empty() && length > rope.original_length;
    f(sequence.start, sequence.length, here, std::span<const float>(frequencies), is_long ? rope.long_scale : rope.scale);
  }
}

}  // namespace

std::vector<float> Rope::frequencies_for(int64_t length) const {
  if (original_length == 0 || length <= original_length) return frequencies;
  if (!long_frequencies.empty()) return long_frequencies;
  const double dims = static_cast<double>(2 * frequencies.size());
  const double stretched = dynamic_factor * static_cast<double>(length) / static_cast<double>(original_length) - (dynamic_factor - 1);
  const float base = static_cast<float>(theta * std::pow(stretched, dims / (dims - 2)));
  std::vector<float> grown(frequencies.size());
  for (size_t i = 0; i < grown.size(); ++i) grown[i] = 1.0f / std::pow(base, static_cast<float>(2 * i) / static_cast<float>(dims));
  return grown;
}

void rotate(const Step& s, const Rope& r, const Tensor& x, int64_t head_dim) {
  for_each_rotation(s, r, [&](int64_t first, int64_t count, auto positions, auto frequencies, float scale) {
    rope(s.ctx, x.row_range(first, count), head_dim, positions, frequencies, scale, r.layout, r.first);
  });
}

void rotate_backward(const Step& s, const Rope& r, const Tensor& d_x, int64_t head_dim) {
  for_each_rotation(s, r, [&](int64_t first, int64_t count, auto positions, auto frequencies, float scale) {
    rope_backward(s.ctx, d_x.row_range(first, count), head_dim, positions, frequencies, scale, r.layout, r.first);
  });
}

}  // namespace loraine
