// A LoRA out of what separates two models: for each linear layer the largest singular triplets of W_tuned − W_base. One matrix is in memory
// at a time, beside the factors that have been found. Called by loraine adapter extract.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "loraine/adapters/decompose/truncate.h"
#include "loraine/adapters/stored/write_low_rank.h"

namespace loraine {

// A linear layer: what adapters call it, and its tensor in the files of both models.
struct LayerTensor {
  std::string path, stored;  // "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.q_proj.weight"
};

struct ExtractOptions {
  RankChoice choice;
  bool uniform = false;                      // one rank for all, the largest, with zeros
  std::vector<std::string> modules_to_save;  // modules whose tensors are stored whole, by the ends of their paths
  int64_t most_rank = 512;                   // to which an energy alone may go
};

struct ExtractedAdapter {
  WrittenLowRank written;
  std::vector<KeptEnergy> energies;  // of the layers that differ
  std::vector<std::string> equal;    // paths of layers that do not
  struct Rest {
    std::string name;
    double apart = 0;  // ‖difference‖_F / ‖base‖_F
  };
  std::vector<Rest> rest;          // tensors that differ and that the adapter does not hold
  std::vector<std::string> whole;  // tensors that it holds whole
  std::vector<Buffer> memory;      // of those
};

// bad_data, naming the tensors, where the models differ in names or shapes. base, tuned: with matrices as [out, in].
ExtractedAdapter extract_adapter(const TensorSource& base, const TensorSource& tuned, const std::vector<LayerTensor>& layers,
                                 const ExtractOptions& options, const std::function<void(int64_t, int64_t)>& done = {});

}  // namespace loraine
