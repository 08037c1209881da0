// How far two saved adapters are from each other, module by module, without their base: norms of ΔW, distance, cosine, and the overlap of
// the subspaces that they use. Called by loraine adapter diff.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "loraine/adapters/stored/low_rank_file.h"

namespace loraine {

struct DeltaDifference {
  std::string path;                     // empty: of all modules together
  std::optional<double> first, second;  // ‖ΔW‖_F of each; none where an adapter does not have the module
  double distance = 0;                  // ‖ΔW_1 − ΔW_2‖_F; a missing one counts as 0
  double relative = 0;                  // that by the larger of the two norms
  std::optional<double> cosine;         // ⟨ΔW_1, ΔW_2⟩ / (‖ΔW_1‖ ‖ΔW_2‖); none where one is 0 or missing
  // φ of Hu et al. 2021, section 7.2: ‖U_1ᵀ U_2‖²_F / k of the first k singular directions of input and of output, 0 (orthogonal) to 1 (the
  // same space); k is the smaller rank of the two. Of all together: the mean over modules.
  std::optional<double> phi_in, phi_out;
  int64_t k = 0;
};

struct AdapterDifference {
  std::vector<DeltaDifference> modules;  // those of either adapter
  DeltaDifference total;
  std::vector<std::string> notes;  // what the adapters do beside, which is not compared
};
// most: the largest k; 0: the smaller rank. bad_data where a module's shapes differ.
AdapterDifference compare_adapters(const std::string& first, const std::string& second, int64_t most = 0,
                                   const std::function<void(int64_t, int64_t)>& done = {});

}  // namespace loraine
