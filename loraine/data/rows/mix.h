// Rows of all data sets of a run as one list. Called by dataset.cpp.
#pragma once
#include <deque>
#include <string>
#include <vector>

#include "loraine/data/dataset.h"
#include "loraine/data/encode/make_examples.h"
#include "loraine/data/rows/rows.h"

namespace loraine {

// Rules of LLaMA-Factory between the settings of mixing; throws usage.
void check_mixing(const DataOptions& options);

// The set's entry or path, for the stage of the options; throws usage where the set is of another.
DatasetInfo find_set(const DataOptions& options, const std::string& name);

// num_samples and weight of a set are drawn first, then max_samples are kept, then the sets are mixed. Appends to `recognised` a line on
// the layout of each set that was given by its path. `digest`, where there is one, gets the rows a few thousand at a time while others are
// read, and what becomes of them is kept in their place, so that texts are not all there at once. drawn: the set has num_samples, so that
// any of them may come first.
using Digest = std::function<void(std::vector<Row>&&, std::deque<Made>&, bool drawn)>;
MixedRows read_sets(const DataOptions& options, const std::vector<std::string>& names, LegacySampler& sampler,
                    std::vector<std::string>& recognised, const Digest& digest = {});

}  // namespace loraine
