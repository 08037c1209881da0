// What `loraine data` tells of the sets of a run: counts, what is striking, lengths, and some examples; as text, as a page, as JSON lines.
#pragma once
#include <string>

#include "loraine/data/dataset.h"
#include "loraine/data/examples/inspect.h"

namespace loraine {

struct DataReport {
  const DataSplit& data;
  const Tokenizer* tokenizer;  // may be null
  const SpecialTokens& special;
  int64_t cutoff_len = 0;
  int64_t examples = 3;  // of each set, that are shown
  bool ids = false;      // with their token ids
  std::string heading;   // what it is of: template, stage

  std::string text(bool colour) const;
  std::string page() const;  // HTML that needs no other file
  // A line per example in the order of the sets: {"set", "input_ids", "labels"}, packed ones with "starts"; pairs and feedback with
  // LLaMA-Factory's names.
  void write_json(const std::string& file) const;
};

// The lines of what is striking in a set: repeated samples, ends that are not trained, two beginnings, what the cut-off cuts.
std::vector<std::string> remarks(const Dataset& set, const Inspection& found, const DataReport& report);

// "train", "eval", or the name of one of several evaluation sets.
std::vector<std::pair<std::string, const Dataset*>> sets_of(const DataSplit& data);

}  // namespace loraine
