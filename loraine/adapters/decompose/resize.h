// A saved adapter at another rank. Called by loraine adapter resize.
#pragma once
#include <functional>
#include <list>
#include <string>
#include <vector>

#include "loraine/adapters/decompose/truncate.h"
#include "loraine/adapters/stored/write_low_rank.h"

namespace loraine {

struct ResizedAdapter {
  WrittenLowRank written;
  std::vector<KeptEnergy> energies;  // a line for each module
  std::list<Buffer> memory;          // of the tensors that stay as they are
};
// With a rank and no energy all modules get that rank, with zeros where a matrix has fewer; with an energy each gets its own, at least 1.
// uniform: then the largest of them, with zeros. DoRA's magnitudes, tensors that are trained whole and biases stay as they are. unsupported
// for an adapter whose start changed its base, and for experts.
ResizedAdapter resize_adapter(const std::string& folder, const RankChoice& choice, bool uniform,
                              const std::function<void(int64_t, int64_t)>& done = {});

}  // namespace loraine
