// A look-up by position.
#include "loraine/model/mixers/learned_positions.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "loraine/kernels/rows/elementwise.h"
#include "loraine/kernels/training/dense_gradients.h"
#include "loraine/model/model.h"
#include "loraine/model/placement.h"

namespace loraine {

std::unique_ptr<Mixer> LearnedPositionsConfig::place(Placement& placement, const std::string&) const {
  return std::make_unique<LearnedPositions>(*this, placement);
}

LearnedPositions::LearnedPositions(const LearnedPositionsConfig& config, Placement& p) : c_(config) {
  p.vector(table_, c_.name + ".weight", {c_.positions, c_.hidden_size});
}

void LearnedPositions::forward(const Step& s, const Tensor& y, const Tensor&) const {
  if (!y.data) return;
  const std::span<const int32_t> positions = s.batch.positions;
  if (const int32_t last = *std::ranges::max_element(positions); last >= c_.positions)
    throw Error(ErrorKind::usage, fmt::format("a sequence has {} tokens, and the model has learned {} positions", last + 1, c_.positions),
                "set a smaller cutoff_len (or max_new_tokens)");
  for_each_dense(s.batch, s.pass, [&](int64_t first, int64_t count, const DenseSet* set) {
    embedding(s.ctx, y.row_range(first, count), as_table(vector_of(set, table_)),
              positions.subspan(static_cast<size_t>(first), static_cast<size_t>(count)));
  });
}

void LearnedPositions::backward(const Step& s, AdapterSet& trained, const Tensor& d_x, const Tensor& d_y, const Tensor&) const {
  if (const Tensor d = gradient_of(trained.dense.get(), table_); d.data) embedding_gradient(s.ctx, as_table(d), d_y, s.batch.positions);
  if (d_x.data) std::memset(d_x.data, 0, d_x.bytes());
}

}  // namespace loraine
